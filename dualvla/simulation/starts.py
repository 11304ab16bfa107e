"""Start poses: the fixed sets of evaluation, and the random ones of demonstrations.

ManiSkill's own starts are its only randomness: 24 a task, 64 for the eggplant. They are written
down here as the rules that generate them, so that a start can be named, drawn and compared without
a simulator; a test compares them with ManiSkill's tables. All other sets are drawn once from fixed
seeds. Demonstrations must not repeat any fixed start, or training would see the test.

The two instruct sets put distractors beside the pair and have instructions of their own. Their
pairs lie as a demonstration's may: they ask to understand more, not to reach further.

Poses are in ManiSkill's world frame: table top at z = 0.8695, the robot looks along -x.
"""

import zlib
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dualvla import poses
from dualvla.config import Demonstrations
from dualvla.errors import UserError
from dualvla.simulation import clutter, instructions
from dualvla.simulation.instructions import Instruction

Array = NDArray[np.float64]
Name = Literal["official", "shifted", "validation", "instruct_rephrased", "instruct_situated"]

SHIFTED, VALIDATION, INSTRUCT = 48, 24, 24  # starts a task
TRIES = 1000
INSTRUCT_JITTER = (0.02, 0.25)  # metres and radians off an official start
SAME_PLACE, SAME_YAW = 1e-3, 0.01  # metres, radians: closer than both is the same start


@dataclass(frozen=True, eq=False)
class Start:
    """Where the source, the target and then the distractors are put, in this order."""

    id: str
    positions: Array  # (2 + n, 3) metres, world
    quaternions: Array  # (2 + n, 4) wxyz, world
    distractors: tuple[str, ...] = ()  # n objects.Object.name
    instruction: str = ""  # what the robot is told; empty: the task's own command
    kind: str = ""  # of the instruction; one of instructions.KINDS


@dataclass(frozen=True)
class Workspace:
    """Where a task's objects may be put."""

    centre: tuple[float, float]  # of the source's positions, metres, world
    half: tuple[float, float]  # demonstrations reach this far from it
    wide: tuple[float, float]  # shifted starts reach this far
    apart: float  # least distance of source and target, metres
    heights: tuple[float, float]  # of source and target at release, metres
    moves_target: bool  # whether the target is placed too
    turns_target: bool  # whether the target's yaw is varied too


_TABLE = Workspace(
    centre=(-0.16, 0.0),
    half=(0.10, 0.10),
    wide=(0.115, 0.115),
    apart=0.11,
    heights=(0.887529, 0.869532),
    moves_target=True,
    turns_target=False,
)
_BASKET = (-0.125, 0.025, 1.0)
_SINK = (-0.105, 0.206, 0.933)  # middle of the official starts of the eggplant

WORKSPACES: dict[str, Workspace] = {
    "carrot": _TABLE,
    "spoon": Workspace(_TABLE.centre, _TABLE.half, _TABLE.wide, 0.12, (0.88, 0.875), True, True),
    "stack": Workspace(
        _TABLE.centre, (0.11, 0.11), (0.125, 0.125), 0.07, (0.887529, 0.887529), True, True
    ),
    # Nearer to the sink's walls than this, or put down instead of dropped, the eggplant starts
    # inside a wall and is thrown out of the sink, as it is in one of ManiSkill's own starts (61).
    "eggplant": Workspace(
        (-0.118, 0.206), (0.022, 0.035), (0.028, 0.045), 0.0, (0.953, 1.0), False, False
    ),
}

PAIRS = {  # source and target, as in environments.TASKS
    "carrot": ("carrot", "plate"),
    "spoon": ("spoon", "towel"),
    "stack": ("green cube", "yellow cube"),
    "eggplant": ("eggplant", "basket"),
}

_NO_TURN = (1.0, 0.0, 0.0, 0.0)
_EGGPLANT_TURNS = (  # ManiSkill's eight resting orientations of the eggplant, 45 degrees apart
    (0.543729, 0.82549, 0.0746101, 0.131747),
    (0.559342, 0.817133, -0.138906, -0.0116353),
    (0.543029, 0.789388, -0.267736, -0.101503),
    (-0.40751, -0.532897, 0.652644, 0.352154),
    (-0.157154, 0.235481, 0.75148, -0.595927),
    (-0.020137, 0.0213848, 0.953791, -0.299033),
    (-0.108854, 0.337692, 0.897378, -0.262348),
    (0.366114, 0.618434, 0.571457, 0.396152),
)
_SOURCE_TURNS: dict[str, tuple[tuple[float, ...], ...]] = {
    "carrot": tuple(tuple(poses.yaw_quaternion(yaw)) for yaw in (np.pi, -np.pi / 2)),
    "spoon": tuple(tuple(poses.yaw_quaternion(yaw)) for yaw in (0.0, np.pi / 2)),
    "stack": (_NO_TURN,),
    "eggplant": _EGGPLANT_TURNS,
}
_GRIDS: dict[str, tuple[float, ...]] = {"carrot": (0.075,), "spoon": (0.075,), "stack": (0.05, 0.1)}


@cache
def fixed(task: str, name: Name) -> tuple[Start, ...]:
    """The fixed starts of a task.

    Args:
        task: carrot, spoon, stack or eggplant.
        name: `official`: ManiSkill's own, in its order of episode ids (24; 64 for the eggplant);
            `shifted`: 48 at wider positions and any yaw; `validation`: 24 that look like
            demonstrations, for choices made before the other sets are looked at;
            `instruct_rephrased`, `instruct_situated`: 24 each with distractors, the task's
            instructions of that split in turn.

    Raises:
        UserError: an unknown task or set.
    """
    if task not in WORKSPACES:
        raise UserError(f"no such task: {task}", fix=f"one of {', '.join(WORKSPACES)}")
    if name == "official":
        return tuple(_official(task))
    if name not in get_args(Name):
        raise UserError(f"no such set of starts: {name}", fix=f"one of {', '.join(get_args(Name))}")
    if name.startswith("instruct_"):
        return tuple(_instruct(task, name))
    rng = np.random.default_rng(zlib.crc32(f"{task} {name}".encode()))
    space = WORKSPACES[task]
    known = list(_official(task))
    drawn: list[Start] = []
    for index in range(SHIFTED if name == "shifted" else VALIDATION):
        label = f"{name}-{index:02d}"
        half = space.wide if name == "shifted" else space.half
        while True:
            start = _uniform(task, label, rng, half)
            if not any(same(start, other) for other in known + drawn):
                break
        drawn.append(start)
    return tuple(drawn)


def demonstration(task: str, rng: np.random.Generator, params: Demonstrations) -> Start:
    """A random start for a demonstration; never one of the fixed starts.

    A share `params.uniform_share` is uniform in the workspace with any yaw, the others are an
    official start moved by U(-jitter_xy, jitter_xy) and turned by U(-jitter_yaw, jitter_yaw).

    Raises:
        UserError: the parameters leave no start that is not an evaluation start.
    """
    forbidden = [start for name in get_args(Name) for start in fixed(task, name)]
    for _ in range(TRIES):
        if rng.random() < params.uniform_share:
            start = _uniform(task, "demonstration", rng, WORKSPACES[task].half)
        else:
            start = _jittered(task, rng, params.jitter_xy, params.jitter_yaw)
        if not any(same(start, other) for other in forbidden):
            return start
    what = f"{TRIES} random starts of {task} all equal an evaluation start"
    raise UserError(what, where="demonstrations", fix="raise jitter_xy or uniform_share")


def same(one: Start, other: Start) -> bool:
    """Whether two starts agree in the place and orientation of both objects, within a hair.

    The height of release does not count: the objects fall to the same rest. Distractors do not
    count either.
    """
    if np.abs(one.positions[:2] - other.positions[:2])[:, :2].max() >= SAME_PLACE:
        return False
    turns, others = one.quaternions[:2], other.quaternions[:2]
    cosine = np.abs((turns * others).sum(-1))
    lengths = np.linalg.norm(turns, axis=-1) * np.linalg.norm(others, axis=-1)
    return bool((2 * np.arccos(np.clip(cosine / lengths, 0, 1))).max() < SAME_YAW)


def cluttered(task: str, start: Start, rng: np.random.Generator) -> Start:
    """A start with one to three distractors; without any where none of the draws fits."""
    for _ in range(TRIES):
        found = _with(task, start, clutter.cast(task, PAIRS[task], (), rng), rng)
        if found is not None:
            return found
    return start


def _instruct(task: str, name: Name) -> list[Start]:
    split: instructions.Split = "rephrased" if name == "instruct_rephrased" else "situated"
    known = list(_official(task))
    told = instructions.of(task, split)
    drawn: list[Start] = []
    for index in range(INSTRUCT):
        rng = np.random.default_rng(zlib.crc32(f"{task} {name} {index}".encode()))
        instruction = told[index % len(told)]
        while True:
            start = _riddle(task, instruction, rng)
            if start is not None and not any(same(start, other) for other in known + drawn):
                break
        drawn.append(replace(start, id=f"{name}-{index:02d}"))
    return drawn


def _riddle(task: str, instruction: Instruction, rng: np.random.Generator) -> Start | None:
    """A start at which an instruction means the task's pair; None where the draw does not fit."""
    names = clutter.cast(task, PAIRS[task], instruction.beside, rng)
    if not instruction.allows(names):
        return None
    pair = _jittered(task, rng, *INSTRUCT_JITTER)
    space = WORKSPACES[task]
    # A jittered eggplant may lie so near to the sink's wall that no finger fits between them.
    if (np.abs(pair.positions[0, :2] - space.centre) > space.wide).any():
        return None
    start = _with(task, pair, names, rng)
    if start is None:
        return None
    uv = clutter.seen(task, start.positions)
    if not instruction.picks((*PAIRS[task], *names), uv):
        return None
    return replace(start, instruction=instruction.text, kind=instruction.kind)


def _with(
    task: str, start: Start, names: tuple[str, ...], rng: np.random.Generator
) -> Start | None:
    pair = clutter.Placed(PAIRS[task], start.positions, start.quaternions)
    placed = clutter.scatter(task, names, pair, rng)
    if placed is None:
        return None
    return replace(
        start, positions=placed.positions, quaternions=placed.quaternions, distractors=names
    )


def _official(task: str) -> list[Start]:
    starts: list[Start] = []
    for places in _official_places(task):
        for turn in _SOURCE_TURNS[task]:
            label = f"official-{len(starts):02d}"
            starts.append(Start(label, places, np.array([turn, _NO_TURN])))
    return starts


def _official_places(task: str) -> list[Array]:
    space = WORKSPACES[task]
    if task == "eggplant":
        xs = np.linspace(-0.01, 0.01, 2) + _SINK[0]
        ys = np.linspace(-0.015, 0.015, 4) + _SINK[1]
        return [np.array([(x, y, _SINK[2]), _BASKET]) for x in xs for y in ys]
    places = []
    for half in _GRIDS[task]:
        corners = [(-half, -half), (-half, half), (half, -half), (half, half)]
        for pair in permutations(corners, 2):
            places.append(_place(task, np.array(pair) + space.centre))
    return places


def _place(task: str, plane: Array) -> Array:
    """Positions (2, 3) from planar ones (2, 2)."""
    return np.column_stack([plane, WORKSPACES[task].heights])


def _uniform(task: str, label: str, rng: np.random.Generator, half: tuple[float, float]) -> Start:
    space = WORKSPACES[task]
    turn = _SOURCE_TURNS[task][rng.integers(len(_SOURCE_TURNS[task]))]
    quaternions = _turned(task, np.array(turn), rng.uniform(-np.pi, np.pi, 2))
    while True:
        plane = np.array(space.centre) + rng.uniform(-1, 1, (2, 2)) * half
        if not space.moves_target:
            positions = np.array([(*plane[0], space.heights[0]), _BASKET])
            return Start(label, positions, quaternions)
        if np.linalg.norm(plane[0] - plane[1]) >= space.apart:
            return Start(label, _place(task, plane), quaternions)


def _jittered(task: str, rng: np.random.Generator, xy: float, yaw: float) -> Start:
    space = WORKSPACES[task]
    base = fixed(task, "official")[rng.integers(len(fixed(task, "official")))]
    yaws = rng.uniform(-yaw, yaw, 2)
    quaternions = _turned(task, base.quaternions[0], yaws)
    while True:
        positions = base.positions.copy()
        jitter = rng.uniform(-xy, xy, (2, 2))
        positions[0, :2] += jitter[0]
        positions[0, 2] = space.heights[0]
        if space.moves_target:
            positions[1, :2] += jitter[1]
        if np.linalg.norm(positions[0, :2] - positions[1, :2]) >= min(space.apart, 0.07):
            return Start("demonstration", positions, quaternions)


def _turned(task: str, turn: Array, yaws: Array) -> Array:
    target = poses.yaw_quaternion(yaws[1]) if WORKSPACES[task].turns_target else np.array(_NO_TURN)
    return np.array([poses.multiply(poses.yaw_quaternion(yaws[0]), turn), target])
