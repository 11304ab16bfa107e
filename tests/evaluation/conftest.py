"""A pick and place drawn with a ruler, for tests of the judge: no simulator, exact geometry."""

import itertools

import numpy as np
import pytest

from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.evaluation.judges import Clip

SOURCE, TARGET = np.array([0.30, 0.08, 0.02]), np.array([0.30, -0.10, 0.01])
START = np.array([0.25, 0.0, 0.12])
UP = np.array([0.0, 0.0, 0.08])
STEP = 0.02

# Waypoint of the gripper, gripper command on the way, subtask, move.
LEGS = (
    (SOURCE + UP, 1, "reach for the carrot", "forward left"),
    (SOURCE, 1, "grasp the carrot", "down"),
    (SOURCE, -1, "grasp the carrot", "close gripper"),
    (SOURCE + UP, -1, "lift the carrot", "up"),
    (TARGET + UP, -1, "move the carrot to the plate", "right"),
    (TARGET + [0, 0, 0.02], -1, "place the carrot on the plate", "down"),
    (TARGET + [0, 0, 0.02], 1, "let go of the carrot", "open gripper"),
    (TARGET + UP, 1, "let go of the carrot", "up"),
)


def uv(point):
    """Some camera: the picture's width is the base frame's -y, its height -x."""
    return 0.5 - 2 * point[1], 1.0 - 2 * point[0]


@pytest.fixture(scope="session")
def clip():
    """`clip(speaks=True, every=1)` draws one."""
    return _clip


def _clip(speaks=True, every=1):
    """A perfect trajectory with perfect texts; `every` is the steps between two decisions."""
    tips, actions, texts = [START], [], []
    for goal, gripper, subtask, move in LEGS:
        count = max(1, int(np.ceil(np.linalg.norm(goal - tips[-1]) / STEP)))
        path = np.linspace(tips[-1], goal, count + 1)
        for before, after in itertools.pairwise(path):
            tips.append(after)
            actions.append([*(after - before), 0, 0, 0, gripper])
            texts.append((subtask, move))
    tips, actions = np.array(tips), np.array(actions)
    held = np.concatenate([[False], actions[:, 6] < 0])
    environment = np.zeros((len(tips), len(ENVIRONMENT_STATE_NAMES)))
    carrot = SOURCE.copy()
    said = []
    for step, tip in enumerate(tips):
        carrot = tip if held[step] else carrot
        near = bool(np.linalg.norm(carrot[:2] - TARGET[:2]) < 0.02 and not held[step])
        values = {"grasped": held[step], "on_target": near, "success": near, "phase": -1}
        for name, point in (("source", carrot), ("target", TARGET), ("gripper", tip)):
            values |= {f"{name}.{k}": v for k, v in zip("xyzuv", (*point, *uv(point)), strict=True)}
        environment[step] = [values.get(name, 0) for name in ENVIRONMENT_STATE_NAMES]
        if step < len(texts):
            places = " ; ".join(
                f"{name} at {100 * u:.0f} {100 * v:.0f}"
                for name, (u, v) in (("carrot", uv(carrot)), ("plate", uv(TARGET)))
            )
            said.append(f"subtask: {texts[step][0]} ; move: {texts[step][1]} ; {places}")
    decided = np.arange(len(actions)) % every == 0
    force = tuple(said[i // every * every] if speaks else None for i in range(len(actions)))
    yaw = np.zeros(len(tips))
    return Clip("carrot", "plate", actions, environment, yaw, decided, decided & speaks, force)
