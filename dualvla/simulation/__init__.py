"""Simulation: environments, assets, scripted expert, rollouts in worker processes."""
