"""Evaluation protocols as data: everything that a success rate depends on beside the policy.

The same checkpoint scores 16 to 40 % under protocols that nobody wrote down: which starts, how many
steps, which meaning of success, averaged actions or not. A protocol is one committed YAML file that
says all of it. Resolving it lists every single episode with its seed; the SHA-256 of that list and
of all settings is in every result, and two results may be compared only if it is the same. Numbers
of workers, retries and videos are not part of it, because they change no outcome.
"""

import functools
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from dualvla import config, conventions
from dualvla.conventions import Convention
from dualvla.errors import UserError
from dualvla.evaluation import google_matrix
from dualvla.simulation import starts as fixed_starts
from dualvla.simulation.environments import TASKS, Pack
from dualvla.simulation.episodes import AnyStart, Job

FOLDER = Path(__file__).with_name("protocols")
CANARY = 2  # episodes a task that run first: a broken policy ends there


class Block(config.Section):
    """Episodes of one task."""

    task: str = Field(description="task id")
    starts: str = Field(description="set of fixed starts")
    count: config.Count | None = Field(default=None, description="first starts; null: all")
    max_steps: config.Count = Field(description="control steps of an episode")


class Ensemble(config.Section):
    """Adaptive averaging of predicted actions (CogACT, section 3.4)."""

    window: int = Field(ge=2, le=64, description="decisions averaged over")
    alpha: config.NonNegative = Field(description="weight of agreement with the newest")


class Camera(config.Section):
    """What the policy sees."""

    width: int = Field(ge=32, le=1280, description="pixels")
    height: int = Field(ge=32, le=1280, description="pixels")
    crop: config.Positive | None = Field(default=None, le=1, description="middle share kept")


class Protocol(config.Section):
    """One suite, before it is resolved."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="name in results")
    about: str = Field(default="", description="what it is for, and where its numbers come from")
    engine: Literal["simulation", "parallel", "simpler_env"] = Field(
        description="what runs the episodes: docs/engines.md"
    )
    robot: Literal["widowx", "google"] = Field(description="whose action convention holds")
    control_hz: config.Positive = Field(description="control steps a second")
    success_mode: config.SuccessMode = Field(description="which recorded mode is reported")
    execute: config.Count = Field(description="actions executed a decision")
    ensemble: Ensemble | None = Field(default=None, description="null: actions as predicted")
    camera: Camera
    repeats: config.Count = Field(default=1, description="times each start runs, each its own seed")
    episodes: tuple[Block, ...] = Field(min_length=1, description="in report order")
    matrix: dict[str, google_matrix.Matrix] = Field(
        default={}, description="starts of the Google-robot tasks, by task"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Protocol":
        if self.ensemble is not None and self.execute != 1:
            raise ValueError("an ensemble needs execute: 1, as it decides anew at each step")
        google = self.robot == "google"
        if google != (self.engine == "simpler_env") or google != bool(self.matrix):
            raise ValueError("robot: google, engine: simpler_env and a matrix go together")
        return self


@dataclass(frozen=True)
class Planned:
    """One episode to run, and the set of starts it belongs to."""

    starts: str
    job: Job
    repeat: int = 0

    @property
    def id(self) -> str:
        """Id of the start, and of the repeat where a start runs more than once."""
        return self.job.start.id + (f"#{self.repeat}" if self.repeat else "")

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells an episode apart: set of starts, task, id."""
        return self.starts, self.job.task, self.id


@dataclass(frozen=True, eq=False)
class Resolved:
    """A protocol down to single episodes, on one asset pack, with one seed."""

    protocol: Protocol
    assets: Pack
    seed: int
    planned: tuple[Planned, ...]

    @property
    def convention(self) -> Convention:
        """What a policy's actions must mean."""
        return CONVENTIONS[self.protocol.robot]

    @property
    def tasks(self) -> list[str]:
        """In report order."""
        return list(dict.fromkeys(item.job.task for item in self.planned))

    def to_json(self) -> dict[str, Any]:
        """All that outcomes depend on beside policy and code."""
        return {
            "protocol": self.protocol.model_dump(
                mode="json", exclude=None if self.protocol.matrix else {"matrix"}
            ),
            "convention": self.convention.to_json(),
            "assets": self.assets,
            "seed": self.seed,
            "episodes": [
                {
                    "starts": item.starts,
                    "task": item.job.task,
                    "start_id": item.id,
                    "instruction": command(item.job),
                    "max_steps": item.job.max_steps,
                    "seed": item.job.seed,
                }
                for item in self.planned
            ],
        }

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of `to_json`, hexadecimal."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """The resolved protocol as a file beside the results, its hash first."""
        return yaml.safe_dump({"hash": self.hash, **self.to_json()}, sort_keys=False, width=100)


CONVENTIONS = {
    "widowx": conventions.WIDOWX_SIMULATION,
    "google": conventions.GOOGLE_SIMULATION,
}


def command(job: Job) -> str:
    """What the robot is told at first; empty where only the simulator knows."""
    return job.start.instruction or (TASKS[job.task].instruction if job.task in TASKS else "")


def names() -> list[str]:
    """Committed protocols."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Protocol:
    """A committed protocol by its name, or any YAML file by its path.

    Raises:
        UserError: no such protocol, an unknown key or a bad value, or a file that takes the name of
            a committed one: its rates would stand in that one's columns.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        fix = f"one of {', '.join(names())}, or the path of a YAML file"
        raise UserError(f"no such suite: {name}", fix=fix)
    if path.parent == FOLDER:
        return parse(config.read_yaml(path), name)
    found = parse(config.read_yaml(path), name)
    if found.name in names() and found != load(found.name):
        what = f"it is named {found.name}, as a committed protocol that it differs from"
        raise UserError(what, where=name, fix="give it a name of its own")
    return found


def parse(data: Any, where: str) -> Protocol:
    """Check a protocol; a `UserError` names the first bad key."""
    try:
        return Protocol.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = f"{key}: {first['msg']}" if key else first["msg"]
        raise UserError(what, where=where, fix="mend the protocol") from error


def nightly(evaluate: config.Evaluate, simulation: config.Simulation) -> Protocol:
    """The protocol that `params.yaml` describes: many short-cuts, for comparing our own models."""
    counts = evaluate.episodes_per_task
    blocks = [
        {
            "task": task,
            "starts": name,
            "count": counts.get(name) if isinstance(counts, dict) else counts,
            "max_steps": TASKS[task].max_steps,
        }
        for name in evaluate.starts
        for task in simulation.tasks
    ]
    size = simulation.image_size
    data = {
        "name": "nightly",
        "engine": "simulation",
        "robot": "widowx",
        "control_hz": conventions.WIDOWX_SIMULATION.control_hz,
        "success_mode": evaluate.success_mode,
        "execute": evaluate.execute,
        "camera": {"width": size, "height": size},
        "episodes": blocks,
    }
    return parse(data, "params.yaml")


def resolve(
    protocol: Protocol,
    assets: Pack,
    seed: int,
    *,
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    videos: int = 0,
) -> Resolved:
    """List every episode of a protocol.

    Args:
        protocol: what to run.
        assets: asset pack.
        seed: the run's; an episode's own is a function of it, of the start and of the repeat.
        tasks: some of the protocol's only.
        limit: first starts of each block only.
        videos: episodes of each task whose film is kept, from the first set of starts.

    Raises:
        UserError: an unknown task or set of starts, an episode listed twice, another control rate
            than the robot's, or nothing to run.
    """
    convention = CONVENTIONS[protocol.robot]
    if protocol.robot == "google" and assets != "official":
        fix = "--assets official, with MS2_ASSET_DIR as docs/engines.md says"
        raise UserError(f"{protocol.name} has no {assets} assets", where="assets", fix=fix)
    if protocol.control_hz != convention.control_hz:
        what = f"control_hz is {protocol.control_hz:g}, the robot's is {convention.control_hz:g}"
        raise UserError(what, where=protocol.name, fix="mend the protocol")
    known = {block.task for block in protocol.episodes}
    for task in tasks or ():
        if task not in known:
            raise UserError(f"no task {task} in {protocol.name}", fix=f"one of {sorted(known)}")
    shown = protocol.episodes[0].starts
    planned = []
    for block in protocol.episodes:
        if tasks is not None and block.task not in tasks:
            continue
        counts = [count for count in (block.count, limit) if count is not None]
        chosen = _starts(protocol, block)[: min(counts, default=None)]  # type: ignore[arg-type]
        for repeat in range(protocol.repeats):
            for index, start in enumerate(chosen):
                again = f" {repeat}" if repeat else ""
                text = f"{seed} {block.starts} {block.task} {start.id}{again}"
                job = Job(
                    task=block.task,
                    start=start,
                    seed=zlib.crc32(text.encode()) & 0x7FFFFFFF,
                    max_steps=block.max_steps,
                    video=block.starts == shown and repeat == 0 and index < videos,
                    first=block.starts == shown and repeat == 0 and index < CANARY,
                )
                planned.append(Planned(block.starts, job, repeat))
    return Resolved(protocol, assets, seed, _once(planned, protocol.name))


def _starts(protocol: Protocol, block: Block) -> Sequence[AnyStart]:
    tasks = protocol.matrix or TASKS
    if block.task not in tasks:
        fix = f"one of {', '.join(tasks)}"
        raise UserError(f"no such task: {block.task}", where=f"protocol {protocol.name}", fix=fix)
    if not protocol.matrix:
        return fixed_starts.fixed(block.task, block.starts)
    try:
        return google_matrix.expand(protocol.matrix[block.task])
    except ValueError as error:
        where = f"protocol {protocol.name}, matrix {block.task}"
        raise UserError(str(error), where=where, fix="mend the matrix") from error


def _once(planned: list[Planned], name: str) -> tuple[Planned, ...]:
    if not planned:
        raise UserError("nothing to run", where=f"protocol {name}", fix="mend it")
    twice = [key for key, count in Counter(item.key for item in planned).items() if count > 1]
    if twice:
        what = f"episode {' '.join(twice[0])} is listed twice"
        raise UserError(what, where=f"protocol {name}", fix="mend its episodes")
    return tuple(planned)
