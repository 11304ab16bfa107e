"""Where an episode went wrong: the stage at which it stopped, from the simulator's state.

A rate says how often a policy fails, a table of phases what to mend: its eyes, its fingers, its
aim, or its pace. Every episode has exactly one, by rules on the true state alone, never on the
text; the first that fits counts:

success      the task's rule holds, in the mode that is asked for.
unknown      the engine does not tell where the objects are (not finite).
not_reached  never held, and the finger tips never came within `REACH` of the object's centre.
not_grasped  never held, though they did.
timeout      on its way when time was up: in the fingers after the last step, or let go during the
             last step and still nearing its goal (more than `STILL`).
misplaced    let go at the goal (within `NEAR` in the plane), or opened on command with the
             object not higher than `AIR` over where it lay at first: put down, in the wrong way or
             at the wrong place. Also a rule that held once and does not count in this mode.
dropped      all else: slipped out of closed fingers, or let go in the air, short of the goal.

A grasp is the state's flag after any step. What counts of several is the last: an object that is
lost and picked up again is not dropped. A wrong object is named by the judge, not here: for the
right one it reads not_reached or not_grasped.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualvla.conventions import ACTION_NAMES, ENVIRONMENT_STATE_NAMES
from dualvla.evaluation import outcomes

SUCCESS = "success"
FAILURES = ("not_reached", "not_grasped", "dropped", "misplaced", "timeout", "unknown")

REACH = 0.05  # metres; a spoon is held 3 cm off its centre
NEAR = 0.06  # metres in the plane: at the goal
AIR = 0.03  # metres over where the object lay at first
STILL = 0.002  # metres in a step: less is no motion

_COLUMN = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}
_GRIPPER = ACTION_NAMES.index("gripper")


def of(
    environment_states: NDArray[np.floating],
    actions: NDArray[np.floating],
    mode: str = "last_step",
) -> str:
    """How one episode of T steps ended: `SUCCESS` or one of `FAILURES`.

    Args:
        environment_states: (T + 1, K) conventions.ENVIRONMENT_STATE_NAMES.
        actions: (T, 7) conventions.ACTION_NAMES.
        mode: of success, one of outcomes.MODES.

    Raises:
        ValueError: not one state more than actions.
    """
    if len(environment_states) != len(actions) + 1:
        raise ValueError(f"{len(environment_states)} states, {len(actions)} actions")
    success = outcomes.success(environment_states)
    if success[mode]:
        return SUCCESS
    source, target, tip = (
        _points(environment_states, of) for of in ("source", "target", "gripper")
    )
    if not all(np.isfinite(points).all() for points in (source, target, tip)):
        return "unknown"
    held = environment_states[:, _COLUMN["grasped"]] > 0.5
    if not held.any():
        reached = np.linalg.norm(tip - source, axis=1).min() < REACH
        return "not_grasped" if reached else "not_reached"
    away = np.linalg.norm(source - target, axis=1)
    last = int(np.flatnonzero(held)[-1])
    if last == len(actions) or (last == len(actions) - 1 and away[-2] - away[-1] > STILL):
        return "timeout"
    aside = np.linalg.norm((source - target)[[last, -1], :2], axis=1).min()
    opened = actions[last, _GRIPPER] > 0
    low = source[last, 2] - source[0, 2] < AIR
    placed = aside < NEAR or (opened and low) or success["any_step"]
    return "misplaced" if placed else "dropped"


def table(episodes: pd.DataFrame) -> list[dict[str, Any]]:
    """How the episodes ended, by set of starts: its tasks together (`all`), then each task.

    Args:
        episodes: with starts, task, status and `failure`, as of `of` (not read of a crashed one).

    Returns:
        rows with starts, task, n (episodes that ran to their end), errors (those that crashed),
        success and each of `FAILURES` as counts.
    """
    rows = []
    for starts, of_starts in episodes.groupby("starts", sort=False):
        parts = [("all", of_starts), *of_starts.groupby("task", sort=False)]
        for task, part in parts:
            ended = part.loc[part["status"] == "ok", "failure"]
            counts = {name: int((ended == name).sum()) for name in (SUCCESS, *FAILURES)}
            errors = {"n": len(ended), "errors": len(part) - len(ended)}
            rows.append({"starts": str(starts), "task": str(task), **errors, **counts})
    return rows


def _points(states: NDArray[np.floating], thing: str) -> NDArray[np.float64]:
    columns = [_COLUMN[f"{thing}.{axis}"] for axis in "xyz"]
    return np.asarray(states[:, columns], np.float64)
