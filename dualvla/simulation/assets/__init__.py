"""Asset packs of the simulator: `activate` one before ManiSkill is imported."""

from dualvla.simulation.assets.pack import Pack, activate, check, version

__all__ = ["Pack", "activate", "check", "version"]
