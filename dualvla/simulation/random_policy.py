"""A policy that knows nothing: the floor of every comparison, and the stand-in of a test."""

from collections.abc import Sequence

import numpy as np

from dualvla.conventions import WIDOWX_SIMULATION
from dualvla.interface import Decision, Observation

SPREAD = (0.015, 0.015, 0.015, 0.05, 0.05, 0.05)  # standard deviations, metres and radians


class RandomPolicy:
    """Draws chunks of normal deltas and a random gripper, one generator a slot.

    Args:
        chunk: actions a decision.
    """

    convention = WIDOWX_SIMULATION

    def __init__(self, chunk: int = 8) -> None:
        self.chunk = chunk
        self._generators: dict[int, np.random.Generator] = {}

    def reset(self, slot: int, instruction: str, seed: int) -> None:
        """Begin an episode with the generator of `seed`."""
        self._generators[slot] = np.random.default_rng(seed)

    def act(self, slots: Sequence[int], observations: Sequence[Observation]) -> list[Decision]:
        """One random chunk a slot."""
        return [Decision(self._draw(self._generators[slot])) for slot in slots]

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        moves = rng.normal(0, SPREAD, (self.chunk, 6))
        gripper = np.full((self.chunk, 1), rng.choice([-1.0, 1.0]))
        return np.hstack([moves, gripper]).astype(np.float32)
