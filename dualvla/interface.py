"""What passes between an environment and whatever acts in it.

The policy protocol is small on purpose: the scripted expert, a random policy, our models and remote
policies all fit it, one batched policy serves many environments, and nothing here imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dualvla.conventions import Convention

FloatArray = NDArray[np.float32]
ImageArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Observation:
    """What an environment shows at one step."""

    image: ImageArray | None  # (height, width, 3); None where rendering was skipped
    state: FloatArray  # (7,) conventions.STATE_NAMES: measured pose, opening in [0, 1]
    controller: FloatArray  # (6,) the controller's target pose: metres, Euler XYZ radians
    environment_state: FloatArray  # conventions.ENVIRONMENT_STATE_NAMES; never fed to a model
    instruction: str


@dataclass(frozen=True)
class Decision:
    """What a policy answers to one observation."""

    actions: FloatArray  # (n, 7) conventions.ACTION_NAMES, executed in order
    text: str | None = None  # reasoning in force, None if there is none
    tokens: int = 0  # tokens written for this decision


class Policy(Protocol):
    """Acts in several environments at once; a slot is one environment's running episode."""

    convention: Convention

    def reset(self, slot: int, instruction: str, seed: int) -> None:
        """Forget the slot's episode; `seed` fixes every random choice of the new one."""

    def act(self, slots: Sequence[int], observations: Sequence[Observation]) -> list[Decision]:
        """One decision a slot; the result does not depend on which slots share the batch."""
