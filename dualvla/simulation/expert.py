"""A scripted expert: privileged state in, one clean closed-loop action out.

It steers the controller's target pose through the phases of a pick and place. Two properties make
its demonstrations fit to be imitated, and both were learnt the hard way:

* A phase ends on a condition of the visible state, never after a number of steps. A hidden clock
  cannot be imitated.
* The grasp yaw has a fixed branch. A two-finger grasp repeats every half turn (a cube's every
  quarter); taking the nearest one puts a discontinuity right where the usual starts lie, and the
  demonstrations around it contradict each other. `Skill.branch` puts it where no usual start is.

The action depends on the state of the moment, so an expert that is pushed or loses the object
corrects itself. It reads only `Observation`, and the objects' shapes from the asset pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from dualvla import poses
from dualvla.conventions import ENVIRONMENT_STATE_NAMES, PHASES, WIDOWX_SIMULATION
from dualvla.errors import UserError
from dualvla.interface import Decision, FloatArray, Observation
from dualvla.objects import Object
from dualvla.poses import Array
from dualvla.simulation.environments import TASKS, TIP, Pack, value
from dualvla.simulation.instructions import BY_TEXT

MAX_STEP, MAX_TURN = 0.035, 0.35  # metres and radians an action moves the target at most
MODELS = Path("data/tasks/bridge_v2_real2sim_dataset/custom/models")

_SOURCE = ENVIRONMENT_STATE_NAMES.index("source.x")
_TARGET = ENVIRONMENT_STATE_NAMES.index("target.x")
_TIP = ENVIRONMENT_STATE_NAMES.index("gripper.x")


@dataclass(frozen=True)
class Skill:
    """How one task is done. Metres and radians."""

    branch: float  # grasp yaws lie in [branch, branch + period)
    period: float = np.pi  # of the grasp yaw
    along: float = 0.0  # grasp this far from the centre, towards the thin end
    depth: float = 0.008  # finger tips this far below the object's centre
    near: float = 0.006  # finger tips this far above the grasp when they close
    hover: float = 0.05  # finger tips this far above the grasp before they go down
    carry: float = 0.055  # the object's underside this far above the target's top on its way
    drop: float = 0.004  # and this far above it when let go
    centred: float = 0.010  # planar distance to the target at which lowering begins


SKILLS = {
    "carrot": Skill(branch=np.radians(-45)),
    "spoon": Skill(branch=np.radians(-45), along=0.03),
    "stack": Skill(branch=np.radians(-45), period=np.pi / 2, centred=0.006),
    # The sink's walls can stop a finger early, and the basket's rim is high.
    "eggplant": Skill(
        branch=np.radians(58 - 180), near=0.017, carry=0.09, drop=0.03, centred=0.015
    ),
}


@dataclass(frozen=True, eq=False)
class Shape:
    """An object's collision mesh in its own frame; the long axis is x."""

    corners: Array  # (n, 3) vertices, metres
    centre: Array  # (3,) of the bounding box
    thin: float  # +1 or -1: on which side along x the object is thinner


@dataclass
class _Episode:
    skill: Skill
    source: Shape
    target: Shape
    phase: str = "reach"
    yaw: float | None = None  # grasp yaw, held from the grasp on


@dataclass(frozen=True, eq=False)
class _View:
    """What the expert reads off one observation; positions in the base frame."""

    tip: Array  # (3,)
    grasp: Array  # (3,) where the finger tips grasp the object
    axis: Array  # (3,) its long axis
    source: Array  # (3,)
    bottom: float  # z of the object's underside
    target: Array  # (3,)
    top: float  # z of the target's upper side
    grasped: bool
    opening: float


class Expert:
    """The scripted expert as a policy: one action a decision.

    Args:
        assets: asset pack whose shapes it grasps.
    """

    convention = WIDOWX_SIMULATION

    def __init__(self, assets: Pack) -> None:
        self._assets = assets
        self._episodes: dict[int, _Episode] = {}

    def reset(self, slot: int, instruction: str, seed: int) -> None:
        """Begin an episode; the expert makes no random choices."""
        told = BY_TEXT.get(instruction)
        specs = [
            spec
            for spec in TASKS.values()
            if spec.instruction == instruction or (told is not None and told.task == spec.name)
        ]
        if not specs:
            raise UserError(f"the expert knows no task {instruction!r}", fix="use an official task")
        source, target = (shape(self._assets, thing) for thing in specs[0].objects)
        self._episodes[slot] = _Episode(SKILLS[specs[0].name], source, target)

    def phase(self, slot: int) -> int:
        """Index into `PHASES` of the slot's last action."""
        return PHASES.index(self._episodes[slot].phase)

    def act(self, slots: Sequence[int], observations: Sequence[Observation]) -> list[Decision]:
        """One action a slot."""
        pairs = zip(slots, observations, strict=True)
        return [Decision(_action(self._episodes[slot], seen)[None]) for slot, seen in pairs]


def shape(assets: Pack, thing: Object) -> Shape:
    """Shape of an object in an asset pack.

    Raises:
        UserError: the pack or the object's mesh is not there.
    """
    from dualvla.simulation.assets import activate

    return _read_shape(activate(assets) / MODELS / thing.model / "collision.obj")


@cache
def _read_shape(path: Path) -> Shape:
    if not path.is_file():
        raise UserError("no such mesh", where=str(path), fix="complete the asset pack")
    lines = path.read_text(encoding="utf-8").splitlines()
    corners = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
    low, high = corners.min(0), corners.max(0)
    centre = (low + high) / 2
    # Mean width of the two ends tells a spoon's handle from its bowl.
    offset = (corners[:, 0] - centre[0]) / (high[0] - low[0])
    ends = [np.ptp(corners[side, 1]) for side in (offset > 0.25, offset < -0.25)]
    return Shape(corners, centre, 1.0 if ends[0] <= ends[1] else -1.0)


def _action(episode: _Episode, observation: Observation) -> FloatArray:
    view = _view(episode, observation)
    episode.phase = _next_phase(episode, view, observation)
    controller = observation.controller.astype(np.float64)
    goal, gripper = _goal(episode, view, controller)
    step = poses.delta(controller, goal)
    step[:3] = _limited(step[:3], MAX_STEP)
    step[3:] = _limited(step[3:], MAX_TURN)
    return np.append(step, gripper).astype(np.float32)


def _limited(vector: Array, length: float) -> Array:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-12))


def _view(episode: _Episode, observation: Observation) -> _View:
    state = observation.environment_state.astype(np.float64)
    source, target = state[_SOURCE : _SOURCE + 7], state[_TARGET : _TARGET + 7]
    turn = poses.matrix_from_quaternion(source[3:])
    corners = episode.source.corners @ turn.T + source[:3]
    upper = episode.target.corners @ poses.matrix_from_quaternion(target[3:]).T + target[:3]
    held = episode.source.centre + [episode.skill.along * episode.source.thin, 0, 0]
    grasp = turn @ held + source[:3]
    bottom = float(corners[:, 2].min())
    grasp[2] = max(grasp[2] - episode.skill.depth, bottom + 0.003)
    # Of a cube any face may be up: take the most level of its axes, first ones first.
    axes = turn.T if episode.skill.period < np.pi else turn.T[:1]
    axis = axes[int(np.argmin(np.round(np.abs(axes[:, 2]), 1)))]
    return _View(
        tip=state[_TIP : _TIP + 3],
        grasp=grasp,
        axis=axis,
        source=turn @ episode.source.centre + source[:3],
        bottom=bottom,
        target=target[:3],
        top=float(upper[:, 2].max()),
        grasped=value(observation, "grasped") > 0.5,
        opening=float(observation.state[6]),
    )


def _next_phase(episode: _Episode, view: _View, observation: Observation) -> str:
    """The phase after looking: on when its condition holds, back to the start when it failed."""
    skill, phase = episode.skill, episode.phase
    beside = np.linalg.norm(view.tip[:2] - view.grasp[:2])
    above = view.tip[2] - view.grasp[2]
    turned = abs(poses.wrap(observation.state[5] - _grasp_yaw(skill, view), skill.period))
    astray = np.linalg.norm(view.target[:2] - view.source[:2])
    clear = view.bottom - view.top
    slipped = not view.grasped and np.linalg.norm(view.tip - view.grasp) > 0.04
    done = {
        "reach": beside < 0.008 and turned < 0.12 and above < skill.hover + 0.02,
        "lower": above < skill.near,
        "grasp": view.grasped,
        "lift": clear > skill.carry - 0.015,
        "move": astray < skill.centred,
        "place": clear < skill.drop + 0.004,
        "release": view.opening > 0.8 and not view.grasped,
    }
    failed = {
        "lower": beside > 0.03,
        "grasp": not view.grasped and view.opening < 0.02,
        "lift": slipped,
        "move": slipped,
        "place": slipped,
        "retreat": value(observation, "on_target") < 0.5 and astray > 0.03,
    }
    if failed.get(phase, False):
        return "reach"
    return PHASES[PHASES.index(phase) + 1] if done.get(phase, False) else phase


def _grasp_yaw(skill: Skill, view: _View) -> float:
    along = np.arctan2(view.axis[1], view.axis[0])
    return float(poses.wrap(along, skill.period, skill.branch))


def _goal(episode: _Episode, view: _View, controller: Array) -> tuple[Array, float]:
    """Target pose (6,) of the phase, and the gripper: +1 open, -1 closed."""
    skill, phase = episode.skill, episode.phase
    if phase in ("reach", "lower") or episode.yaw is None:
        episode.yaw = _grasp_yaw(skill, view)
    place = controller[:3] - [0, 0, TIP]  # where the finger tips are meant to be
    # What the arm lags behind its target by does not concern the object: add what is missing to
    # where the tips are.
    missing = view.target - view.source
    if phase == "reach":
        place = view.grasp + [0, 0, skill.hover]
    elif phase in ("lower", "grasp"):
        place = view.grasp
    elif phase == "lift":
        place = np.append(place[:2], view.tip[2] + skill.carry - (view.bottom - view.top))
    elif phase == "move":
        rise = skill.carry - (view.bottom - view.top)
        place = view.tip + [missing[0], missing[1], rise]
    elif phase == "place":
        fall = skill.drop - (view.bottom - view.top)
        place = view.tip + [missing[0], missing[1], fall]
    elif phase == "retreat":
        place = np.append(place[:2], max(place[2], view.top + skill.carry + 0.03))
    gripper = 1.0 if phase in ("reach", "lower", "release", "retreat") else -1.0
    return np.array([*(place + [0, 0, TIP]), 0.0, 0.0, episode.yaw]), gripper
