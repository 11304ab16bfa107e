"""Many episodes of one task in one scene on a CUDA device: ManiSkill 3's GPU-parallel simulation.

Physics and pictures of all episodes advance together, so that a step costs little more than one
episode's, and the policy sees them in one batch. In return the episodes keep step: a batch starts
and ends as one, rows that are over wait for the others, and a device that fails takes the process
with it (results that were streamed stay; the run resumes). Nothing is repeated here.

Physics on a CUDA device is not that of a CPU to the last bit, and neither is its own when another
number of episodes shares the scene: rates may be compared with those of worker processes, single
trajectories may not. All starts of a batch settle for as long as the slowest needs.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.interface import FloatArray, Observation, Policy
from dualvla.simulation.environments import TASKS, Device, Environment, Pack, Size, reuse
from dualvla.simulation.episodes import Episode, Job, Trajectory, ask
from dualvla.simulation.starts import Start


def run(
    jobs: Sequence[Job],
    policy: Policy,
    *,
    assets: Pack,
    image_size: Size,
    count: int,
    execute: int,
    device: Device = "cuda",
) -> Iterator[Trajectory]:
    """Run episodes batch by batch and yield each batch's when it ends.

    Args:
        jobs: what to run; jobs of a task, and of the same distractors, share batches.
        policy: answers batches; its slots are 0 to count - 1.
        assets: asset pack.
        image_size: of the pictures.
        count: episodes in one scene.
        execute: actions of a decision executed before the next one.
        device: `cpu` holds one episode and is there to compare the two ways.

    Trajectories keep pictures of jobs with video alone: those of a whole batch would not fit.

    Raises:
        UserError: no CUDA device, an unknown task, a missing asset pack, or a policy of another
            convention.
    """
    from dualvla.simulation.assets import activate

    conventions.require_same(
        policy.convention, conventions.WIDOWX_SIMULATION, where="policy and environment"
    )
    for job in jobs:
        if job.task not in TASKS:
            raise UserError(f"no such task: {job.task}", fix=f"one of {', '.join(TASKS)}")
    if device == "cpu" and count != 1:
        raise UserError(f"{count} episodes in one scene on a CPU", fix="one, or a CUDA device")
    if device == "cuda":
        require_cuda()
    activate(assets)
    return _batches(jobs, policy, (assets, image_size, count, device), execute)


def require_cuda() -> None:
    """Raise a `UserError` where no CUDA device is."""
    import torch

    if not torch.cuda.is_available():
        fix = "choose engine: simulation, which runs worker processes on a CPU"
        raise UserError("engine: parallel needs a CUDA device, and there is none", fix=fix)


def _batches(
    jobs: Sequence[Job], policy: Policy, scene: tuple[Pack, Size, int, Device], execute: int
) -> Iterator[Trajectory]:
    def kind(job: Job) -> tuple[str, tuple[str, ...]]:
        return job.task, _start(job).distractors

    for (task, _), alike in itertools.groupby(sorted(jobs, key=kind), kind):
        environment = reuse(task, *scene)
        while batch := list(itertools.islice(alike, environment.count)):
            yield from _together(environment, batch, policy, execute)


def _together(
    environment: Environment, jobs: list[Job], policy: Policy, execute: int
) -> Iterator[Trajectory]:
    """One batch. Rows without a job repeat the last one's start, and nobody looks at them."""
    starts = [_start(job) for job in jobs]
    starts += [starts[-1]] * (environment.count - len(starts))
    running = {row: Episode(job, 0) for row, job in enumerate(jobs)}
    pending: dict[int, list[FloatArray]] = {row: [] for row in running}
    for row, seen in zip(running, environment.reset_all(starts), strict=False):
        policy.reset(row, seen.instruction, jobs[row].seed)
        running[row].saw([seen])
    while True:
        done = [row for row in running if not pending[row] and _over(running[row])]
        for row in done:
            yield running.pop(row).result()
        asking = {row: episode for row, episode in running.items() if not pending[row]}
        if asking:
            for row, answer in ask(policy, asking, execute).items():
                if isinstance(answer, str):
                    yield running.pop(row).result(answer)
                else:
                    pending[row] = list(answer)
        if not running:
            return
        actions = np.zeros((environment.count, len(conventions.ACTION_NAMES)), np.float32)
        for row in running:
            actions[row] = pending[row].pop(0)
        shown = any(e.job.video or not pending[row] for row, e in running.items())
        seen_all = environment.step_all(actions, render=shown)
        for row, episode in running.items():
            _forget_pictures(episode)
            episode.saw([seen_all[row]])


def _over(episode: Episode) -> bool:
    return len(episode.actions) >= episode.job.max_steps


def _forget_pictures(episode: Episode) -> None:
    """Drop what the policy has seen: a batch's pictures of all steps would take gigabytes."""
    if episode.job.video:
        return
    last: Observation = episode.observations[-1]
    episode.observations[-1] = replace(last, image=None)
    episode.images.clear()


def _start(job: Job) -> Start:
    if not isinstance(job.start, Start):
        raise TypeError(f"not a start of this project's tasks: {job.start!r}")
    return job.start
