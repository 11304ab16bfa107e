"""Closed-loop evaluation: one function behind the command line, the DVC stage and the flow.

Every episode is kept in a ledger the moment it ends, so a run that was killed goes on with the next
one. The first two episodes of each task run first and are looked at: a policy that answers nonsense
or does not move ends there, after a minute and not after an hour, and begins with them again when
it is started again. The result's folder appears at once, when all is done. It holds no times and no
paths, and is the same to the byte whatever the number of workers and however often the run was
interrupted; times go where the caller says.
"""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualvla import conventions, files, progress
from dualvla.errors import UserError
from dualvla.evaluation import ensembling, gallery, ledger, simpler, videos
from dualvla.evaluation.opened import Opened
from dualvla.evaluation.protocol import Planned, Resolved, command
from dualvla.simulation import foreign, parallel, rollouts
from dualvla.simulation.episodes import FAULT, Trajectory

SCHEMA = 2
SUMMARY, PROTOCOL, LEDGER, VIDEOS = "summary.json", "protocol.yaml", "ledger.sqlite", "videos"
STILL = 0.01  # metres: a gripper that stays within them all through an episode does not move


@dataclass(frozen=True)
class Work:
    """How an evaluation is carried out; none of it changes an outcome."""

    partial: Path  # folder of what is done so far
    timing: Path  # file written: decisions, the wall-clock seconds they took, and by what code
    workers: int  # simulation processes
    retries: int = 2  # repeats of an episode whose worker crashed
    name: str = "evaluate"  # of the model, in results and on the progress bar


def evaluate(opened: Opened, resolved: Resolved, out: Path, work: Work) -> dict[str, Any]:
    """Run what is not done yet of a protocol and write the result's folder.

    Args:
        opened: the policy.
        resolved: what to run.
        out: folder written, in place of an older one: results.parquet, steps.parquet, summary.json,
            protocol.yaml, videos/, gallery.html.
        work: how.

    Returns:
        the content of summary.json.

    Raises:
        UserError: a policy of another convention, a broken policy, a server that hangs up, or
            another process is at it. What was done until then stays in `work.partial`.
    """
    conventions.require_same(
        opened.policy.convention, resolved.convention, where="policy and protocol"
    )
    identity = {
        "protocol": resolved.hash,
        "policy": opened.to_json(),
        "reason": opened.reason,
        "code": code(),
    }
    with _alone(work), ledger.opened(work.partial / LEDGER) as book:
        if book.identity() != identity:
            shutil.rmtree(work.partial / VIDEOS, ignore_errors=True)
            book.begin(identity)
        for item in resolved.planned:
            if item.job.video and not _video(work, item).is_file():
                book.forget(item.key)
        _run(opened, resolved, work, book)
        outcome = simpler.tables([book.get(item.key) for item in resolved.planned])
    summary = _summary(opened, resolved, work, outcome)
    decisions = int(outcome.episodes["decisions"].sum())
    about = {"decisions": decisions, "seconds": outcome.seconds, "code": identity["code"]}
    files.write_json(work.timing, about)
    with files.replacing(out) as beside:
        (beside / VIDEOS).mkdir(parents=True)
        for table in (outcome.episodes, outcome.steps):
            table.insert(0, "model", work.name)
        outcome.episodes.to_parquet(beside / simpler.EPISODES, index=False)
        outcome.steps.to_parquet(beside / simpler.STEPS, index=False)
        for item in resolved.planned:
            if item.job.video and _video(work, item).is_file():
                shutil.copyfile(_video(work, item), beside / VIDEOS / _video(work, item).name)
        files.write_text(beside / PROTOCOL, resolved.to_yaml())
        files.write_json(beside / SUMMARY, summary)
        gallery.write(beside)
    shutil.rmtree(work.partial)
    return summary


def broken(outcome: simpler.Outcome) -> str | None:
    """What shows in its first episodes that a policy does not act at all; None if it does.

    Failure is no sign: a weak policy fails too. An error of the simulation is none either.
    """
    episodes, steps = outcome.episodes, outcome.steps
    refused = episodes["error"].dropna()
    refused = refused[refused.str.startswith(FAULT)]
    if len(refused):
        return str(refused.iloc[0])
    places = steps[[f"state.{axis}" for axis in "xyz"]]
    groups = places.groupby([steps[name] for name in simpler.KEY], sort=False)
    reach = (groups.max() - groups.min()).max(axis=1)
    if len(reach) and bool((reach < STILL).all()):
        return f"the gripper stayed within {100 * STILL:.0f} cm in {len(reach)} episodes"
    return None


def code(package: Path = Path(__file__).parents[1]) -> str:
    """SHA-256 of this package's files: what is half done by other code is not gone on with.

    Python's caches are left out: they appear while a run imports one module after the other.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in package.rglob("*") if path.is_file()):
        if file.parent.name != "__pycache__":
            name = file.relative_to(package).as_posix()
            digest.update(f"{name}\0{files.sha256(file)}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(work: Work) -> Iterator[None]:
    """One process at a time does an evaluation's work; another is refused."""
    work.partial.mkdir(parents=True, exist_ok=True)
    with (work.partial / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it, or write to another folder"
            what = "another process runs this evaluation"
            raise UserError(what, where=str(work.partial), fix=fix) from None
        yield


def _run(opened: Opened, resolved: Resolved, work: Work, book: ledger.Ledger) -> None:
    done = book.keys()
    left = [item for item in resolved.planned if item.key not in done]
    total, found = len(resolved.planned), len(done)
    if found:
        progress.log(f"{work.name}: {found} of {total} episodes were done before")
    canary = [item for item in resolved.planned if item.job.first]
    waiting = {item.key for item in canary} - done
    if canary and not waiting:  # killed before they were looked at
        _require_alive(canary, work, book)
    mode = resolved.protocol.success_mode
    places = simpler.places_of(resolved.planned)
    trajectories = _trajectories(opened, resolved, work, left)
    with videos.Writer() as writer:
        for trajectory in progress.track(trajectories, len(left), f"evaluate {work.name}"):
            item = resolved.planned[places[simpler.job_key(trajectory.job)]]
            kept = simpler.keep(item, trajectory, mode)
            if trajectory.frames:
                writer.submit(_video(work, item), _film(resolved, trajectory))
            book.add(item.key, kept)
            if item.key in waiting:
                waiting.discard(item.key)
                if not waiting:
                    _require_alive(canary, work, book)


def _trajectories(
    opened: Opened, resolved: Resolved, work: Work, left: Sequence[Planned]
) -> Iterator[Trajectory]:
    protocol = resolved.protocol
    ensemble = protocol.ensemble
    policy = ensembling.Protocolled(
        opened.policy,
        crop=protocol.camera.crop,
        window=None if ensemble is None else ensemble.window,
        alpha=0.0 if ensemble is None else ensemble.alpha,
    )
    # A worker holds one task's scene: all starts of a task run in a row.
    jobs = [item.job for task in resolved.tasks for item in left if item.job.task == task]
    size = (protocol.camera.width, protocol.camera.height)
    if protocol.engine == "simpler_env":
        engine, again = foreign.google_robot(), work.retries
        return rollouts.drive(
            jobs, policy, engine, workers=work.workers, execute=protocol.execute, retries=again
        )
    if protocol.engine == "parallel":
        return parallel.run(
            jobs,
            policy,
            assets=resolved.assets,
            image_size=size,
            count=work.workers,
            execute=protocol.execute,
        )
    return rollouts.run(
        jobs,
        policy,
        assets=resolved.assets,
        image_size=size,
        workers=work.workers,
        execute=protocol.execute,
        retries=work.retries,
    )


def _require_alive(canary: Sequence[Planned], work: Work, book: ledger.Ledger) -> None:
    """Raise a `UserError` if a policy does not act; its first episodes are then run again."""
    what = broken(simpler.tables([book.get(item.key) for item in canary]))
    if what is not None:
        for item in canary:
            book.forget(item.key)
        fix = f"mend the policy; nothing more was run, films are in {work.partial / VIDEOS}"
        raise UserError(f"canary: {what}", where=work.name, fix=fix)


def _video(work: Work, item: Planned) -> Path:
    return work.partial / VIDEOS / videos.name(*item.key)


def _film(resolved: Resolved, trajectory: Trajectory) -> videos.Film:
    phase = conventions.ENVIRONMENT_STATE_NAMES.index("phase")
    count = len(trajectory.frames)
    return videos.Film(
        frames=trajectory.frames,
        texts=simpler.texts_in_force(trajectory, count),
        instruction=command(trajectory.job),
        fps=resolved.protocol.control_hz,
        actions=trajectory.actions,
        phases=trajectory.environment_states[:, phase].astype(np.int64).tolist(),
    )


def _summary(
    opened: Opened, resolved: Resolved, work: Work, outcome: simpler.Outcome
) -> dict[str, Any]:
    protocol = resolved.protocol
    ran = {
        "schema": SCHEMA,
        "model": work.name,
        "policy": opened.to_json(),
        "protocol": {"name": protocol.name, "hash": resolved.hash},
        "assets": resolved.assets,
        "reason": opened.reason,
        "seed": resolved.seed,
        "execute": protocol.execute,
        "convention": resolved.convention.to_json(),
    }
    return ran | simpler.summary(outcome, protocol.success_mode)
