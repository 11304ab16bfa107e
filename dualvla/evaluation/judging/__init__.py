"""Judges of trajectories for the VLA Score: what they see and say, and how far to trust it."""
