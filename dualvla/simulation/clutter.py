"""Other things on the table or in the sink: what may lie there, and where there is room.

Planar geometry without a simulator: a thing is a row of discs along its long axis. They are put
where the camera sees them and the fingers have room around source and target, so that the scripted
expert, which knows nothing of them, hits none. In the sink only cubes fit: carrot and spoon are too
long for the basin's floor and come to rest against its walls.

Poses are in ManiSkill's world frame, lengths in metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dualvla import poses
from dualvla.objects import BY_NAME
from dualvla.simulation.camera import Camera

Array = NDArray[np.float64]

FINGERS = 0.045  # least room around the source, an open finger's width
RELEASE = 0.03  # around the target
ROOM = 0.02  # between distractors
TRIES = 60  # places tried for a thing

# Centres of discs along x, and their radius.
_DISCS: dict[str, tuple[tuple[float, ...], float]] = {
    "carrot": ((-0.041, 0.0, 0.041), 0.02),
    "spoon": ((-0.053, 0.0, 0.053), 0.02),
    "green cube": ((0.0,), 0.0215),
    "yellow cube": ((0.0,), 0.0215),
    "eggplant": ((-0.02, 0.02), 0.021),
    "plate": ((0.0,), 0.055),
    "towel": ((0.0,), 0.068),
    "basket": ((0.0,), 0.06),
}
_EGGPLANT = np.array([0.559342, 0.817133, -0.138906, -0.0116353])  # lying; ManiSkill's own


@dataclass(frozen=True)
class Surface:
    """A surface to put things on."""

    things: tuple[str, ...]
    low: tuple[float, float]  # x and y, world
    high: tuple[float, float]
    drop: float  # height of release
    most: int  # distractors at once
    base: tuple[float, float, float]  # of the robot, which looks along -x
    eye: tuple[tuple[float, ...], tuple[float, ...]]  # the camera in the base: position, quaternion
    shade: tuple[float, float, float]  # u from, u to, v to: where the gripper starts and hides


_TABLE = Surface(
    things=("carrot", "spoon", "green cube", "yellow cube", "eggplant", "plate", "towel"),
    low=(-0.30, -0.16),
    high=(-0.04, 0.18),
    drop=0.888,
    most=3,
    base=(0.147, 0.028, 0.870),
    eye=((0.0, -0.16, 0.36), (0.8992917, -0.09263245, 0.35892478, 0.23209205)),
    shade=(0.38, 0.66, 0.38),
)
_SINK = Surface(
    things=("green cube", "yellow cube"),
    low=(-0.168, 0.138),
    high=(-0.078, 0.268),
    drop=0.942,
    most=2,
    base=(0.127, 0.060, 0.85),
    eye=((-0.003, -0.21, 0.39), (-0.907313, 0.0782, -0.36434, -0.194741)),
    shade=(0.0, 0.0, 0.0),
)


def surface(task: str) -> Surface:
    """Where a task's distractors lie."""
    return _SINK if task == "eggplant" else _TABLE


@cache
def camera(task: str) -> Camera:
    """The task's camera as ManiSkill places it, known without a simulator."""
    place, turn = (np.array(numbers) for numbers in surface(task).eye)
    axes = poses.matrix_from_quaternion(turn / np.linalg.norm(turn))  # x forward, y left, z up
    rotation = np.stack([-axes[:, 1], -axes[:, 2], axes[:, 0]])
    focal, (u, v) = 623.588, (319.501, 239.545)
    intrinsic = np.array([[focal / 640, 0, u / 640], [0, focal / 480, v / 480], [0, 0, 1]])
    return Camera(intrinsic, np.column_stack([rotation, -rotation @ place]))


def seen(task: str, positions: Array) -> Array:
    """Image positions u, v (n, 2) of world positions (n, 3)."""
    base = surface(task).base
    return camera(task).project((positions - base) * [-1, -1, 1])


def cast(
    task: str, pair: tuple[str, str], beside: tuple[str, ...], rng: np.random.Generator
) -> tuple[str, ...]:
    """One to three distractors (in the sink two), `beside` first; at least one is movable."""
    ground = surface(task)
    count = max(len(beside), int(rng.integers(1, ground.most + 1)))
    pool = [name for name in ground.things if name not in (*pair, *beside)]
    while True:
        more = [pool[i] for i in rng.permutation(len(pool))[: count - len(beside)]]
        if any(BY_NAME[name].movable for name in (*beside, *more)):
            return (*beside, *more)
        count = max(count, len(beside) + 1)


@dataclass(frozen=True, eq=False)
class Placed:
    """Things and where they are."""

    names: tuple[str, ...]
    positions: Array  # (n, 3)
    quaternions: Array  # (n, 4) wxyz

    def and_(self, name: str, position: Array, quaternion: Array) -> "Placed":
        """These and one more."""
        return Placed(
            (*self.names, name),
            np.vstack([self.positions, position]),
            np.vstack([self.quaternions, quaternion]),
        )


def scatter(
    task: str, names: Sequence[str], pair: Placed, rng: np.random.Generator
) -> Placed | None:
    """Place things around source and target; None where there is no room.

    Args:
        task: whose surface it is.
        names: what to place.
        pair: source and target.
        rng: of places and turns.

    Returns:
        All of them, the pair first.
    """
    ground = surface(task)
    placed = pair
    for name in names:
        # All tries at once: in the sink few of them fit.
        plane = rng.uniform(ground.low, ground.high, (TRIES, 2))
        places = np.column_stack([plane, np.full(TRIES, ground.drop)])
        turns = np.stack([_resting(name, yaw) for yaw in rng.uniform(-np.pi, np.pi, TRIES)])
        free = spare(placed, name, places, turns).min(1) >= 0
        fit = np.flatnonzero(free & _visible(ground, seen(task, places)))
        if not len(fit):
            return None
        placed = placed.and_(name, places[fit[0]], turns[fit[0]])
    return placed


def spare(placed: Placed, name: str, places: Array, turns: Array) -> Array:
    """By how much a thing would lie further from each placed one than it has to, metres.

    Args:
        placed: source, target, then distractors.
        name: the thing.
        places: (n, 3) where it might lie.
        turns: (n, 4) and how.

    Returns:
        (n, things placed); negative where there is no room.
    """
    rooms = [FINGERS, RELEASE, *[ROOM] * (len(placed.names) - 2)]
    discs = _discs(name, places, turns)
    gaps = []
    for other, place, turn in zip(*vars(placed).values(), strict=True):
        taken = _discs(other, place[None], turn[None])[0]
        between = np.linalg.norm(discs[:, :, None] - taken, axis=-1).min((1, 2))
        gaps.append(between - _DISCS[name][1] - _DISCS[other][1])
    return np.column_stack(gaps) - rooms


def _discs(name: str, places: Array, turns: Array) -> Array:
    """Centres of a thing's discs, (n, discs, 2)."""
    w, x, y, z = (turns / np.linalg.norm(turns, axis=-1, keepdims=True)).T
    axes = np.column_stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z)])  # of x, from above
    return places[:, None, :2] + np.array(_DISCS[name][0])[:, None] * axes[:, None]


def _resting(name: str, yaw: float) -> Array:
    turn = poses.yaw_quaternion(yaw)
    return poses.multiply(turn, _EGGPLANT) if name == "eggplant" else turn


def _visible(ground: Surface, uv: Array) -> NDArray[np.bool_]:
    low, high, below = ground.shade
    hidden = (low < uv[:, 0]) & (uv[:, 0] < high) & (uv[:, 1] < below)
    return np.all((uv > 0.08) & (uv < 0.92), axis=1) & ~hidden
