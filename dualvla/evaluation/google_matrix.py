"""The Google-robot matrices of SimplerEnv as data: variants times ranges, expanded to episodes.

The published numbers are means over 2,856 episodes that its shell scripts spell out call by call
(`scripts/rt1_*_{visual_matching,variant_agg}.sh`). A matrix says the same in a few lines: axes of
named options, each of which overrides the environment, its arguments, where the robot stands or
where the object lies; an episode is one option of each axis, one robot pose, one object position.
Numbers of episodes are tested against the published ones, so that a range mistyped here is noticed.

Nothing of the simulator is imported: an episode is plain data that `infra/simpler` understands.
"""

import itertools
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from dualvla import config, poses

ROBOT = "google_robot_static"
SIM_HZ = 513  # physics steps a second, as in all published runs
TURNED = np.array([0.0, 0.0, 0.0, 1.0])  # wxyz: the robot faces the table, along -x

Span = tuple[float, float, config.Count]  # first, last and number of values, ends included
Scalar = bool | int | float | str | None
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


class Robot(config.Section):
    """Where the robot's base stands."""

    x: Span = Field(description="metres, world")
    y: Span = Field(description="metres, world")
    yaw: float = Field(default=0.0, description="turn from facing the table, radians")


class Objects(config.Section):
    """Where the object lies: on a grid, or in numbered arrangements of the environment's own."""

    x: Span | None = Field(default=None, description="metres, world")
    y: Span | None = Field(default=None, description="metres, world")
    arrangements: config.Count | None = Field(default=None, description="ids 0 to this, exclusive")

    @model_validator(mode="after")
    def _one_kind(self) -> "Objects":
        grid = self.x is not None and self.y is not None
        if grid == (self.arrangements is not None) or (self.x is None) != (self.y is None):
            raise ValueError("give either x and y, or arrangements")
        return self


class Option(config.Section):
    """What one choice changes."""

    env: str | None = Field(default=None, description="id of the environment")
    build: dict[str, Scalar] = Field(default={}, description="arguments it is built with")
    robot: Robot | None = None
    objects: Objects | None = None


class Matrix(Option):
    """All episodes of one task."""

    axes: dict[Name, dict[Name, Option]] = Field(
        default={}, description="an episode for every combination of one option of each axis"
    )


@dataclass(frozen=True)
class Episode:
    """One start of a Google-robot task; fits `episodes.Job.start`."""

    id: str
    env: str
    build: dict[str, Scalar]
    robot_xy: tuple[float, float]  # metres, world
    robot_quaternion: tuple[float, float, float, float]  # wxyz, world
    object_xy: tuple[float, float] | None  # metres, world
    arrangement: int | None
    variant: dict[str, str]  # the option of each axis
    instruction: str = ""  # the environment's own, which may change during an episode

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the simulator's process and for the protocol's hash."""
        return asdict(self)


def expand(matrix: Matrix) -> tuple[Episode, ...]:
    """Every episode of a task, in the order of its axes, robot poses and object positions.

    Ids are the options' names and a running number within them, and differ within the task.

    Raises:
        ValueError: a combination without an environment, a robot pose or object positions.
    """
    episodes = []
    for chosen in itertools.product(*(options.items() for options in matrix.axes.values())):
        names = [name for name, _ in chosen]
        option = _merged([matrix, *(option for _, option in chosen)], names)
        assert option.env is not None
        assert option.robot is not None
        assert option.objects is not None
        quaternion = poses.multiply(poses.yaw_quaternion(option.robot.yaw), TURNED)
        places = itertools.product(_grid(option.robot.x, option.robot.y), _lying(option.objects))
        for index, (robot_xy, (object_xy, arrangement)) in enumerate(places):
            episode = Episode(
                id="-".join([*names, f"{index:02d}"]),
                env=option.env,
                build={"robot": ROBOT, "sim_freq": SIM_HZ, **option.build},
                robot_xy=robot_xy,
                robot_quaternion=tuple(quaternion.tolist()),
                object_xy=object_xy,
                arrangement=arrangement,
                variant=dict(zip(matrix.axes, names, strict=True)),
            )
            episodes.append(episode)
    return tuple(episodes)


def _merged(options: list[Option], names: list[str]) -> Option:
    """Later options override earlier ones; arguments are merged key by key."""
    fields: dict[str, Any] = {"build": {}}
    for option in options:
        fields["build"] = fields["build"] | option.build
        given = {"env": option.env, "robot": option.robot, "objects": option.objects}
        fields |= {key: value for key, value in given.items() if value is not None}
    missing = [key for key in ("env", "robot", "objects") if key not in fields]
    if missing:
        raise ValueError(f"{' '.join(names) or 'the matrix'}: no {missing[0]}")
    return Option.model_validate(fields)


def _grid(x: Span, y: Span) -> list[tuple[float, float]]:
    return [(a, b) for a in _values(x) for b in _values(y)]


def _values(span: Span) -> list[float]:
    # As the published scripts space them: ends included.
    return np.linspace(span[0], span[1], span[2]).tolist()


def _lying(objects: Objects) -> list[tuple[tuple[float, float] | None, int | None]]:
    if objects.arrangements is not None:
        return [(None, index) for index in range(objects.arrangements)]
    assert objects.x is not None
    assert objects.y is not None
    return [(xy, None) for xy in _grid(objects.x, objects.y)]
