"""What success means: three readings of one rollout.

Code bases disagree on which one counts, and a table that mixes them is worthless: the same rollouts
have scored 29 and 75 %. All three are recorded, one is reported, and every result says which.
"""

import numpy as np
from numpy.typing import NDArray

from dualvla import config
from dualvla.conventions import ENVIRONMENT_STATE_NAMES

MODES: tuple[config.SuccessMode, ...] = ("last_step", "any_step", "early_stop")

_COLUMN = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}


def success(environment_states: NDArray[np.floating]) -> dict[str, bool]:
    """The three meanings of success of one rollout.

    `last_step`: the task's rule holds after the last step. `any_step`: it holds after some step.
    `early_stop`: it holds after some step with the object released, where a policy that may stop
    would stop.

    Args:
        environment_states: (T + 1, K) conventions.ENVIRONMENT_STATE_NAMES.
    """
    holds = environment_states[1:, _COLUMN["success"]] > 0.5
    # NaN, from a simulator that does not tell, holds nothing: any success may stop there.
    released = ~(environment_states[1:, _COLUMN["grasped"]] > 0.5)
    return {
        "last_step": bool(len(holds) and holds[-1]),
        "any_step": bool(holds.any()),
        "early_stop": bool((holds & released).any()),
    }
