"""Stage demonstrations: scripted, imported or incoming episodes -> data/demonstrations.

Attempts are numbered and tried in worker processes; the first `per_task` successful ones by number
are kept, whoever finishes first. The output therefore does not depend on the number of workers.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualvla import conventions, files, paths, progress, quality
from dualvla.config import Params
from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.simulation.environments import TASKS, reuse
from dualvla.simulation.expert import Expert
from dualvla.simulation.recording import Episode, record
from dualvla.simulation.workers import single_threaded
from dualvla.stages import runner

AHEAD = 3  # attempts a worker has in its queue
RESTARTS = 3  # of the pool after a crash
PATIENCE = 600.0  # seconds an attempt may take
MIN_RATE, FIRST_CHECK = 0.25, 20  # give up below this share of successes after this many attempts


def main(params: Params) -> None:
    """Write the demonstrations of all tasks and how often the expert succeeded."""
    with files.replacing(paths.DEMONSTRATIONS) as out:
        if params.demonstrations.source == "rlds":
            _import(params, out)
        elif params.demonstrations.source == "incoming":
            _merge(params, out)
        else:
            _simulate(params, out)
        quality.gate("demonstrations", out, params=params)


def _import(params: Params, out: Path) -> None:
    from dualvla.data.rlds import import_rlds

    assert params.demonstrations.rlds_path is not None
    import_rlds(params.demonstrations.rlds_path, out)
    dataset = lerobot.open_dataset(out)
    counts = {"episodes": len(dataset.episodes), "frames": int(dataset.info["total_frames"])}
    files.write_json(out / "metrics.json", {"source": "rlds"} | counts)


def _merge(params: Params, out: Path) -> None:
    from dualvla.data import incoming
    from dualvla.store import shards

    listed = incoming.read(paths.INCOMING)
    counts = incoming.merge(shards.fetch(params, listed), out, params.simulation.image_size)
    files.write_json(out / "metrics.json", {"source": "incoming"} | counts)


def _simulate(params: Params, out: Path) -> None:
    from dualvla.simulation import assets, vulkan

    assets.activate(params.simulation.assets)
    vulkan.require()
    pack, size = params.simulation.assets, params.simulation.image_size
    about = lerobot.About(
        name=f"widowx-{pack}",
        source="simulation",
        convention=conventions.WIDOWX_SIMULATION,
        assets=pack,
    )
    hertz = int(conventions.WIDOWX_SIMULATION.control_hz)
    cameras: dict[str, Any] = {}
    counts: dict[str, dict[str, Any]] = {}
    around: dict[str, list[str]] = {}  # distractors by episode index
    with (
        lerobot.Writer(out, hertz, "widowx", lerobot.simulation_features(size), about) as writer,
        Attempts(params) as attempts,
    ):
        for task in params.simulation.tasks:
            wanted = params.demonstrations.per_task
            lengths = []
            found = attempts.successes(task, wanted)
            for episode in progress.track(found, wanted, f"{task} demonstrations"):
                cameras.setdefault(task, episode.camera)
                lengths.append(len(episode.actions))
                if episode.distractors:
                    index = sum(one["kept"] for one in counts.values()) + len(lengths) - 1
                    around[str(index)] = list(episode.distractors)
                _write(writer, task, episode)
            counts[task] = _counts(attempts.tried, lengths)
        extra = {"tasks": counts} | ({"distractors": around} if around else {})
        writer.about = replace(about, cameras=cameras, extra=extra)
    files.write_json(
        out / "metrics.json", {"source": "simulation", "assets": pack, "tasks": counts}
    )


def _counts(attempts: int, lengths: list[int]) -> dict[str, Any]:
    return {
        "attempts": attempts,
        "kept": len(lengths),
        "success_rate": len(lengths) / attempts,
        "mean_length": sum(lengths) / len(lengths),
        "frames": sum(lengths),
    }


def _write(writer: lerobot.Writer, task: str, episode: Episode) -> None:
    columns = {
        lerobot.STATE: episode.states,
        lerobot.CONTROLLER: episode.controllers,
        lerobot.ENVIRONMENT: episode.environment_states,
        lerobot.ACTION: episode.actions,
    }
    writer.add(columns, {lerobot.CAMERA: episode.images}, TASKS[task].instruction)


class Attempts:
    """Attempts in worker processes, their results in the order of their numbers.

    A worker that dies takes the pool with it, and one that hangs is killed: the pool is started
    again and the attempts under way are repeated, `RESTARTS` times in all.
    """

    def __init__(self, params: Params) -> None:
        self._params = params
        self._workers = params.simulation.workers
        self._restarts = 0
        self._pool = self._start()
        self.tried = 0  # attempts at the last task

    def __enter__(self) -> "Attempts":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def successes(self, task: str, wanted: int) -> Iterator[Episode]:
        """The first `wanted` successful episodes of a task by number.

        Raises:
            UserError: the expert fails too often to get there.
        """
        kept = self.tried = 0
        ahead: deque[int] = deque()
        futures: dict[int, Future[Episode | None]] = {}
        while kept < wanted:
            try:
                while len(ahead) < min(AHEAD * self._workers, wanted - kept):
                    ahead.append(self.tried + len(ahead))
                for number in ahead:
                    if number not in futures:
                        futures[number] = self._submit(task, number)
                episode = futures[ahead[0]].result(PATIENCE)
            except (BrokenProcessPool, TimeoutError):
                for child in multiprocessing.active_children():
                    child.kill()  # one that hangs would keep the pool from ending
                self._restarts += 1
                if self._restarts > RESTARTS:
                    raise
                self._pool = self._start()
                futures.clear()
                continue
            del futures[ahead.popleft()]
            self.tried += 1
            if episode is not None:
                kept += 1
                yield episode
            elif self.tried >= FIRST_CHECK and kept < MIN_RATE * self.tried:
                what = f"the expert succeeded in {kept} of {self.tried} attempts at {task}"
                raise UserError(what, fix="lower the noise or jitter in demonstrations")

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, mp_context=context)

    def _submit(self, task: str, number: int) -> "Future[Episode | None]":
        with single_threaded():  # the pool starts its processes when work arrives
            return self._pool.submit(attempt, task, number, self._params)


def attempt(task: str, number: int, params: Params) -> Episode | None:
    """One attempt, in a worker process that keeps the task's environment for the next."""
    assets, size = params.simulation.assets, params.simulation.image_size
    environment = reuse(task, assets, size)
    return record(environment, Expert(assets), params.demonstrations, params.seed, number)


if __name__ == "__main__":
    runner.run(main)
