"""Layouts of scenes: what lies where, what the gripper does. Pure geometry, no simulator.

Images for question answering and for the vision stem have to show what a demonstration shows: the
task's pairs on their official spots, the arm over them, an object between the fingers, an object on
its target. Recorded rollouts would give that exactly but cost fifty physics steps a picture and are
few and alike; sampled layouts cost none, cover the workspace evenly and come with exact labels. The
price is that contact is only approximate (millimetres), which 128 pixels do not show.

All lengths in metres, angles in radians; the world frame unless said otherwise. A sampler returns
None where a draw does not fit (objects overlap, the arm would touch one) and is simply drawn again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualvla import poses as turns
from dualvla.config import Demonstrations
from dualvla.objects import BY_NAME
from dualvla.simulation import starts
from dualvla.simulation.environments import TASKS
from dualvla.simulation.grips import Arm, anywhere, hold, idle, reach, resting
from dualvla.simulation.shapes import Array, Setting, Shape, apply, pose, turn

MIXED = "mixed"
TABLE = ("carrot", "spoon", "green cube", "yellow cube", "eggplant", "plate", "towel")
SINK = ("eggplant", "carrot", "spoon", "green cube", "yellow cube")  # and the basket, always

UNSEEN_SHARE = 0.05  # of the draws that may leave the finger tips outside the picture
DEMONSTRATION_SHARE = 0.6  # of a task's scenes whose objects start as a demonstration's do

TRIES = 40
STEP = 0.015  # of the floor under an object: above it the object would lean on something


@dataclass(frozen=True)
class Layout:
    """One scene before it is rendered."""

    poses: dict[str, Array]  # (4, 4) in the world, of every object but the basket
    arm: Arm
    held: str | None
    placed: tuple[str, str] | None  # object, what it lies on


def choose(rng: np.random.Generator, tasks: Sequence[str]) -> tuple[str, str]:
    """Pick (setting, task): half of the scenes are a task's own, the others mixed."""
    task = str(rng.choice(list(tasks)))
    settings = sorted({_setting(task) for task in tasks})
    if rng.random() < 0.5:
        return _setting(task), task
    if len(settings) == 1:
        return settings[0], MIXED
    return ("table" if rng.random() < 0.75 else "sink"), MIXED


def sample(
    rng: np.random.Generator, setting: Setting, task: str, demonstrations: Demonstrations
) -> Layout | None:
    """Draw one layout of a task (or `mixed`); None where the draw does not fit."""
    layout = _draw(rng, setting, task, demonstrations)
    unseen = rng.random() < UNSEEN_SHARE
    if layout is None or layout.arm.tip is None or unseen:
        return layout
    uv = setting.project(layout.arm.tip[None])[0]
    return layout if np.all(uv > 0.01) and np.all(uv < 0.99) else None


def _draw(
    rng: np.random.Generator, setting: Setting, task: str, demonstrations: Demonstrations
) -> Layout | None:
    spec = TASKS.get(task)
    source, target = (spec.source, spec.target) if spec else (None, None)
    names = [source, target] if source and target else _cast(rng, setting)
    names = [name for name in names if name in setting.shapes]
    stage = str(rng.choice(["apart", "held", "placed"], p=[0.48, 0.34, 0.18]))
    movable = [name for name in names if BY_NAME[name].movable]
    moved = source or (str(rng.choice(movable)) if movable else None)
    if moved is None:
        stage = "apart"
    supports = [target] if target else _supports(names, moved, setting)
    if stage == "placed" and not supports:
        stage = "apart"
    apart = [name for name in names if stage == "apart" or name != moved]
    spots = None
    if spec and rng.random() < DEMONSTRATION_SHARE:
        start = starts.demonstration(task, rng, demonstrations)
        spots = dict(zip((spec.source, spec.target), _spots(start), strict=True))
    poses = _scatter(rng, setting, apart, spots)
    if poses is None:
        return None
    if stage == "apart" or moved is None:
        arm = idle(rng, setting, poses)
        return None if arm is None else Layout(poses, arm, None, None)
    over = str(rng.choice(supports)) if supports else None
    if stage == "held":
        near = over if task != MIXED or rng.random() < 0.4 else None
        near = near if rng.random() < 0.5 else None
        grip = hold(rng, setting, poses, moved, near)
        if grip is None:
            return None
        return Layout({**poses, moved: grip[0]}, grip[1], moved, None)
    assert over is not None
    poses = {**poses, moved: _place(rng, setting, poses, moved, over)}
    above = moved if rng.random() < 0.65 else None
    placed_arm = reach(rng, setting, poses, above) if above else idle(rng, setting, poses)
    return None if placed_arm is None else Layout(poses, placed_arm, None, (moved, over))


def _setting(task: str) -> str:
    return "sink" if task == "eggplant" else "table"


def _cast(rng: np.random.Generator, setting: Setting) -> list[str]:
    pool, most = (TABLE, 5) if setting.name == "table" else (SINK, 2)
    count = int(rng.integers(1, most + 1))
    return [str(name) for name in rng.choice(list(pool), size=count, replace=False)]


def _supports(names: Sequence[str], moved: str | None, setting: Setting) -> list[str]:
    if setting.name == "sink":
        return ["basket"]
    cubes = {"green cube", "yellow cube"}
    return [
        name
        for name in names
        if name in {"plate", "towel"} or (moved in cubes and name in cubes - {moved})
    ]


def _spots(start: starts.Start) -> list[tuple[Array, Array]]:
    """Planar position (2,) and rotation (3, 3) of a start's source and target."""
    return [
        (place[:2], turns.matrix_from_quaternion(quaternion))
        for place, quaternion in zip(start.positions, start.quaternions, strict=True)
    ]


def _scatter(
    rng: np.random.Generator,
    setting: Setting,
    names: Sequence[str],
    spots: dict[str, tuple[Array, Array]] | None,
) -> dict[str, Array] | None:
    """Put objects on the fixed surface, apart from each other and inside the image."""
    poses: dict[str, Array] = {}
    for name in names:
        shape = setting.shapes[name]
        for _ in range(1 if spots else TRIES):
            if spots:
                xy, rotation = spots[name][0], spots[name][1] @ shape.rest
            else:
                xy, yaw = anywhere(rng, setting)
                rotation = resting(rng, shape, yaw)
            points = shape.vertices @ rotation.T
            ground = setting.floor(xy + _corners(points))
            height = float(setting.floor(xy[None])[0])
            if np.any(np.abs(ground - height) > STEP):
                continue  # over an edge, or against a wall of the sink
            matrix = pose(rotation, np.append(xy, height - points[:, 2].min()))
            uv = setting.project(matrix[None, :3, 3])[0]
            if np.any(uv < 0.03) or np.any(uv > 0.97):
                continue
            taken = ((other, setting.shapes[key]) for key, other in poses.items())
            if all(_apart(matrix, shape, *one) for one in taken):
                poses[name] = matrix
                break
        else:
            return None
    return poses


def _corners(points: Array) -> Array:
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    return np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])


def _apart(
    one: Array, one_shape: Shape, two: Array, two_shape: Shape, margin: float = 0.01
) -> bool:
    """Whether two footprints are at least about `margin` apart (separating axes)."""
    a = apply(one, one_shape.vertices)[:, :2]
    b = apply(two, two_shape.vertices)[:, :2]
    for angle in np.arange(8) * np.pi / 8:
        axis = np.array([np.cos(angle), np.sin(angle)])
        p, q = a @ axis, b @ axis
        if p.min() - q.max() > margin or q.min() - p.max() > margin:
            return True
    return False


def _place(
    rng: np.random.Generator, setting: Setting, poses: dict[str, Array], name: str, over: str
) -> Array:
    """Lay an object on a plate, towel, cube or in the basket."""
    rotation = resting(rng, setting.shapes[name], float(rng.uniform(-np.pi, np.pi)))
    if over == "basket":
        assert setting.basket is not None
        centre = setting.basket[:3, 3]
        spread, sink_in = np.array([0.03, 0.02]), float(rng.uniform(0.0, 0.008))
    else:
        points = apply(poses[over], setting.shapes[over].vertices)
        centre = np.append(poses[over][:2, 3], points[:, 2].max())
        cube = BY_NAME[over].movable
        spread, sink_in = np.full(2, 0.006 if cube else 0.025), 0.0
        if cube:  # a tower stands roughly square
            yaw = np.arctan2(poses[over][1, 0], poses[over][0, 0]) + rng.normal(0, 0.15)
            rotation = turn(2, float(yaw)) @ setting.shapes[name].rest
    low = (setting.shapes[name].vertices @ rotation.T)[:, 2].min()
    xy = centre[:2] + rng.uniform(-spread, spread)
    return pose(rotation, np.append(xy, centre[2] - low - sink_in))
