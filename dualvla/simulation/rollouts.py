"""Episodes in worker processes around one batched policy.

Physics and pictures run in processes (`workers`); the policy stays in the calling process and
answers all workers that wait at that moment in one batch. A worker gets the actions of a decision
in one message and sends back what it saw, so a round trip costs one message a decision.

A simulator can abort or hang its process. The worker is then replaced and its episode run again
from the start; after `retries` repeats the episode is returned with status "error", never as a
failure of the policy. A trajectory depends on its job and the policy alone: neither on the number
of workers nor on what else ran, as resets are bit-exact and a policy's answer does not depend on
its batch.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.interface import Observation, Policy
from dualvla.simulation.environments import TASKS, Pack, Size
from dualvla.simulation.episodes import Episode, Job, Trajectory, ask
from dualvla.simulation.workers import Engine, Worker, widowx

FIRST_ANSWER = 300.0  # seconds a new worker may take: it imports the simulator and compiles shaders
ANSWER = 120.0  # seconds for a reset or the actions of one decision


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
    engine = widowx(assets, image_size)
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
