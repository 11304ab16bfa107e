"""What a judge is shown: one trajectory of an evaluation, with its command, success and film.

An evaluation folder is all that is needed, so that a judge can be changed, repeated or calibrated
without a simulator. An episode that crashed is no case; one without a video is a case without film.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation import judges, simpler, videos
from dualvla.evaluation.judges import Clip, Ratings
from dualvla.evaluation.judging import frames
from dualvla.simulation import starts
from dualvla.simulation.environments import TASKS

Key = tuple[str, str, str]  # simpler.KEY: set of starts, task, start


@dataclass(frozen=True, eq=False)
class Case:
    """One trajectory to rate."""

    key: Key
    instruction: str
    clip: Clip
    success: bool  # in the mode that the evaluation reports
    film: frames.Film | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge made of a case: ratings, or why there are none."""

    ratings: Ratings | None
    error: str | None = None
    answers: tuple[Mapping[str, Any], ...] = field(default=())  # as given, for the llm judge


@dataclass(frozen=True)
class Evaluated:
    """An evaluation as judges read it."""

    folder: Path
    reason: str  # config.Reason
    success_mode: str
    episodes: int
    cases: list[Case]  # of the episodes that ran, in their order

    @property
    def crashed(self) -> int:
        """Episodes that have no trajectory."""
        return self.episodes - len(self.cases)


def read(folder: Path, per_task: int | None = None) -> Evaluated:
    """Cases of an evaluation folder.

    Args:
        folder: results/evaluate/MODEL.
        per_task: first episodes of each task and set of starts; None: all.

    Raises:
        UserError: a table or the summary is missing, or an unknown task, set or start.
    """
    summary = files.read_json(folder / "summary.json")
    for name in (simpler.EPISODES, simpler.STEPS):
        if not (folder / name).is_file():
            fix = f"run the stage evaluate@{folder.name}"
            raise UserError("no such file", where=str(folder / name), fix=fix)
    episodes = pd.read_parquet(folder / simpler.EPISODES)
    if per_task is not None:
        episodes = episodes.groupby(simpler.KEY[:2], sort=False).head(per_task)
    rows = dict(iter(pd.read_parquet(folder / simpler.STEPS).groupby(simpler.KEY, sort=False)))
    found = []
    for episode in episodes[episodes["status"] == "ok"].to_dict("records"):
        key = (str(episode["starts"]), str(episode["task"]), str(episode["start_id"]))
        instruction = _instructions(key[1], key[0]).get(key[2].partition("#")[0])
        if instruction is None:
            what = f"no such start: {' '.join(key)}"
            raise UserError(what, where=str(folder), fix="judges know those of simulation/starts")
        spec = TASKS[key[1]]
        video = folder / "videos" / videos.name(*key)
        found.append(
            Case(
                key,
                instruction or spec.instruction,
                judges.clip_of(rows[key], spec.source, spec.target),
                bool(episode[summary["success_mode"]]),
                partial(frames.of_video, video) if video.is_file() else None,
            )
        )
    return Evaluated(folder, summary["reason"], summary["success_mode"], len(episodes), found)


@cache
def _instructions(task: str, name: Any) -> dict[str, str]:
    """What the robot is told at each start of a set; empty: the task's own command."""
    return {start.id: start.instruction for start in starts.fixed(task, name)}
