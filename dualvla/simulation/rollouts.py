"""Episodes in worker processes around one batched policy.

Physics and pictures run in processes, one environment each, as an `Engine` starts them: `run` with
this project's own environments, `drive` with any; the policy stays in the calling process
and answers all workers that wait at that moment in one batch. A worker gets the actions of a
decision in one message and sends back what it saw, so a round trip costs one message a decision.

A simulator can abort or hang its process. The worker is then replaced and its episode run again
from the start; after `retries` repeats the episode is returned with status "error", never as a
failure of the policy. An answer that is no action (NaN, a wrong shape, out of range) is the
policy's own fault and would come again: its episode is an error at once. A trajectory depends on
its job and the policy alone: neither on the number of workers nor on what else ran, as resets are
bit-exact and a policy's answer does not depend on its batch.
"""

import contextlib
import functools
import multiprocessing
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, Protocol

import numpy as np

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.interface import Decision, FloatArray, ImageArray, Observation, Policy
from dualvla.simulation.environments import TASKS, Environment, Pack, Size, reuse

FIRST_ANSWER = 300.0  # seconds a new worker may take: it imports the simulator and compiles shaders
ANSWER = 120.0  # seconds for a reset or the actions of one decision
FAULT = "the policy answered"  # begins the error of an episode that its policy spoilt
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}


class AnyStart(Protocol):
    """What a worker is reset to: a `Start` of this project's tasks, or another engine's own."""

    @property
    def id(self) -> str:
        """Differs between the starts of a task."""

    @property
    def instruction(self) -> str:
        """What the robot is told; empty: the task's own command."""


@dataclass(frozen=True, eq=False)
class Job:
    """One episode to run."""

    task: str
    start: AnyStart
    seed: int  # of the policy
    max_steps: int
    video: bool = False  # whether every frame is kept
    first: bool = False  # whether it runs before those that are not


@dataclass
class Trajectory:
    """What happened in one episode of T steps. A crashed one has an error and no steps."""

    job: Job
    status: Literal["ok", "error"]
    error: str
    states: FloatArray  # (T + 1, 7)
    controllers: FloatArray  # (T + 1, 6)
    actions: FloatArray  # (T, 7)
    environment_states: FloatArray  # (T + 1, K)
    decisions: list[tuple[int, Decision]]  # step, answer
    images: list[ImageArray]  # what the policy saw, one a decision
    frames: list[ImageArray]  # T + 1 of them if job.video, else none
    decision_seconds: list[float]  # wall-clock time of each decision, a share of its batch's


class Worker(Protocol):
    """A simulation in a process of its own that answers one message at a time."""

    def fileno(self) -> int:
        """Readable when an answer is there, or the process has ended."""

    def send(self, message: tuple[Any, ...]) -> None:
        """Ask for `("reset", task, start)`, or `("step", actions (n, 7), every)`.

        A step is answered with n observations, with a picture each if `every`, else the last alone.
        """

    def receive(self) -> list[Observation] | str:
        """The answer, or a line on what went wrong; `EOFError` if the process ended."""

    def exit_code(self) -> int | None:
        """How the process ended."""

    def stop(self, patient: bool) -> None:
        """End the process and free what it held."""


@dataclass(frozen=True)
class Engine:
    """How episodes are run."""

    convention: conventions.Convention  # of actions and states
    start: Callable[[], Worker]


def run(
    jobs: Sequence[Job],
    policy: Policy,
    *,
    assets: Pack,
    image_size: Size,
    workers: int,
    execute: int,
    retries: int,
) -> Iterator[Trajectory]:
    """Run episodes of this project's tasks; see `drive`.

    Args:
        jobs: what to run; grouped by task, as a worker holds one task's scene.
        policy: answers batches; its slots are 0 to workers - 1.
        assets: asset pack.
        image_size: of the pictures.
        workers: simulation processes.
        execute: actions of a decision executed before the next one.
        retries: repeats of an episode whose worker crashed or hung.

    Raises:
        UserError: an unknown task, a missing asset pack, or a policy of another convention.
    """
    from dualvla.simulation.assets import activate

    for job in jobs:
        if job.task not in TASKS:
            raise UserError(f"no such task: {job.task}", fix=f"one of {', '.join(TASKS)}")
    activate(assets)
    engine = Engine(conventions.WIDOWX_SIMULATION, functools.partial(_Process, assets, image_size))
    return drive(jobs, policy, engine, workers=workers, execute=execute, retries=retries)


def drive(
    jobs: Sequence[Job],
    policy: Policy,
    engine: Engine,
    *,
    workers: int,
    execute: int,
    retries: int,
) -> Iterator[Trajectory]:
    """Run episodes and yield each when it ends; the order may vary, the content does not.

    A policy is reset at an episode's start, and again where the instruction changes on the way.

    Raises:
        UserError: a policy of another convention than the engine's.
    """
    conventions.require_same(policy.convention, engine.convention, where="policy and environment")
    if not jobs:
        return iter(())
    return _Rollouts(jobs, policy, engine, execute=execute, retries=retries).run(workers)


@dataclass(eq=False)
class Episode:
    """An episode on its way."""

    job: Job
    attempt: int
    observations: list[Observation] = field(default_factory=list)
    actions: list[FloatArray] = field(default_factory=list)
    decisions: list[tuple[int, Decision]] = field(default_factory=list)
    images: list[ImageArray] = field(default_factory=list)
    frames: list[ImageArray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def saw(self, observations: list[Observation]) -> None:
        """Keep what a worker sent, pictures apart."""
        if self.job.video:
            self.frames += [seen.image for seen in observations if seen.image is not None]
        self.observations += observations

    def result(self, error: str = "") -> Trajectory:
        """The trajectory, empty after an error."""
        seen = [] if error else self.observations
        size = len(conventions.ENVIRONMENT_STATE_NAMES)
        return Trajectory(
            job=self.job,
            status="error" if error else "ok",
            error=error,
            states=_stack([o.state for o in seen], 7),
            controllers=_stack([o.controller for o in seen], 6),
            actions=_stack([] if error else self.actions, 7),
            environment_states=_stack([o.environment_state for o in seen], size),
            decisions=[] if error else self.decisions,
            images=[] if error else self.images,
            frames=[] if error else self.frames,
            decision_seconds=[] if error else self.seconds,
        )


def ask(
    policy: Policy, episodes: Mapping[int, Episode], execute: int
) -> dict[int, FloatArray | str]:
    """One decision for the episode of each slot, made in one batch and written down there.

    Returns:
        for each slot the (n, 7) actions to execute, or what makes the answer none.
    """
    begin = time.perf_counter()
    shown = [episode.observations[-1] for episode in episodes.values()]
    decisions = policy.act(list(episodes), shown)
    seconds = (time.perf_counter() - begin) / len(episodes)
    answers: dict[int, FloatArray | str] = {}
    for (slot, episode), seen, decision in zip(episodes.items(), shown, decisions, strict=True):
        if fault := conventions.fault(decision.actions):
            answers[slot] = f"{FAULT} {fault}"
            continue
        left = episode.job.max_steps - len(episode.actions)
        actions = np.asarray(decision.actions, np.float32)[: min(execute, left)]
        episode.decisions.append((len(episode.actions), decision))
        episode.seconds.append(seconds)
        if seen.image is not None:
            episode.images.append(seen.image)
        episode.actions += list(actions)
        answers[slot] = actions
    return answers


def _stack(rows: list[FloatArray], width: int) -> FloatArray:
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)


@dataclass
class _Held:
    """A worker and what is known of it."""

    worker: Worker
    deadline: float = 0.0
    fresh: bool = True
    task: str | None = None  # whose scene it holds; another one takes seconds to build


class _Rollouts:
    """State of one call of `run`."""

    def __init__(
        self,
        jobs: Sequence[Job],
        policy: Policy,
        engine: Engine,
        *,
        execute: int,
        retries: int,
    ) -> None:
        self.queue = deque(Episode(job, 0) for job in jobs)
        self.policy, self.execute, self.retries = policy, execute, retries
        self.engine = engine
        self.workers: dict[int, _Held] = {}
        self.running: dict[int, Episode] = {}

    def run(self, workers: int) -> Iterator[Trajectory]:
        try:
            for slot in range(min(workers, len(self.queue))):
                self.workers[slot] = _Held(self.engine.start())
            while self.queue or self.running:
                for slot in sorted(self.workers.keys() - self.running.keys()):
                    if self.queue:
                        self._begin(slot)
                yield from self._turn()
        finally:
            for held in self.workers.values():
                held.worker.stop(patient=True)

    def _begin(self, slot: int) -> None:
        episode = self.running[slot] = self._next(slot)
        job = episode.job
        self.workers[slot].task = job.task
        self._send(slot, ("reset", job.task, job.start))

    def _next(self, slot: int) -> Episode:
        """The first episode of the scene this worker holds, else of one that no worker holds.

        Jobs that are to run first do, whatever scene they need.
        """
        held = {worker.task for worker in self.workers.values()}
        own = self.workers[slot].task

        def cost(episode: Episode) -> tuple[bool, int]:
            task = episode.job.task
            return not episode.job.first, 0 if task == own else 1 if task not in held else 2

        episode = min(self.queue, key=cost)
        self.queue.remove(episode)
        return episode

    def _turn(self) -> Iterator[Trajectory]:
        """Wait for workers, let the policy answer all that wait, hand out its actions."""
        asking: list[int] = []
        for slot, answer in self._answers():
            episode = self.running[slot]
            if isinstance(answer, str):
                yield from self._crashed(slot, answer)
                continue
            before = episode.observations[-1].instruction if episode.observations else None
            if answer[-1].instruction != before:
                self.policy.reset(slot, answer[-1].instruction, episode.job.seed)
            episode.saw(answer)
            if len(episode.actions) >= episode.job.max_steps:
                del self.running[slot]
                yield episode.result()
            else:
                asking.append(slot)
        if asking:
            yield from self._decide(asking)

    def _decide(self, slots: list[int]) -> Iterator[Trajectory]:
        asked = {slot: self.running[slot] for slot in slots}
        for slot, answer in ask(self.policy, asked, self.execute).items():
            if isinstance(answer, str):
                yield self.running.pop(slot).result(answer)
            else:
                self._send(slot, ("step", answer, asked[slot].job.video))

    def _send(self, slot: int, message: tuple[Any, ...]) -> None:
        held = self.workers[slot]
        held.deadline = time.monotonic() + (FIRST_ANSWER if held.fresh else ANSWER)
        # A worker that died meanwhile is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            held.worker.send(message)

    def _answers(self) -> list[tuple[int, list[Observation] | str]]:
        """Observations, or a line on what went wrong, of those that answered, died or hang."""
        awaited = [self.workers[slot] for slot in self.running]
        deadline = min(held.deadline for held in awaited)
        # A worker has a `fileno`, which is all that is asked of it here.
        workers: list[Any] = [held.worker for held in awaited]
        ready: list[Any] = wait(workers, max(0.0, deadline - time.monotonic()))
        answers: list[tuple[int, list[Observation] | str]] = []
        for slot, held in zip(self.running, awaited, strict=True):
            if held.worker in ready:
                try:
                    answers.append((slot, held.worker.receive()))
                    held.fresh = False
                except (EOFError, ConnectionResetError):
                    code = held.worker.exit_code()
                    answers.append((slot, f"the simulation process ended with exit code {code}"))
            elif time.monotonic() >= held.deadline:
                answers.append((slot, "the simulation process did not answer in time"))
        return answers

    def _crashed(self, slot: int, error: str) -> Iterator[Trajectory]:
        self.workers[slot].worker.stop(patient=False)
        episode = self.running.pop(slot)
        if episode.attempt < self.retries:
            self.queue.appendleft(Episode(episode.job, episode.attempt + 1))
        else:
            yield episode.result(error)
        if self.queue:
            self.workers[slot] = _Held(self.engine.start())
        else:
            del self.workers[slot]


class _Process:
    """A `Worker` with this project's environments."""

    def __init__(self, assets: Pack, image_size: Size) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, assets, image_size), daemon=True
        )
        with single_threaded():
            self._process.start()
        theirs.close()

    def fileno(self) -> int:
        return self._pipe.fileno()

    def send(self, message: tuple[Any, ...]) -> None:
        self._pipe.send(message)

    def receive(self) -> list[Observation] | str:
        return self._pipe.recv()

    def exit_code(self) -> int | None:
        self._process.join(5)
        return self._process.exitcode

    def stop(self, patient: bool) -> None:
        self._pipe.close()  # a worker that waits for a message ends at the end of its pipe
        if patient:
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Let processes started inside use one thread each: several share the cores."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, setting in before.items():
            if setting is None:
                del os.environ[name]
            else:
                os.environ[name] = setting


def _work(pipe: Connection, assets: Pack, image_size: Size) -> None:
    """Body of a worker: answer messages until the pipe ends."""
    environment: Environment | None = None
    try:
        while True:
            kind, *content = pipe.recv()
            if kind == "reset":
                task, start = content
                environment = reuse(task, assets, image_size)
                answer = [environment.reset(start)]
            else:
                assert environment is not None
                actions, every = content
                last = len(actions) - 1
                answer = [environment.step(a, every or i == last) for i, a in enumerate(actions)]
            pipe.send(answer)
    except EOFError:
        pass
    except Exception:
        # One line for the episode's row; the whole story for whoever reads the log.
        traceback.print_exc()
        pipe.send(traceback.format_exc().strip().splitlines()[-1])
    finally:
        if environment is not None:
            environment.close()
