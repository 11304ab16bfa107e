"""Closed-loop evaluation on fixed starts: what ran, how it ended, and the rates.

Every model meets the same starts with the same seeds, so that two models can be compared pair by
pair. All three meanings of success are read from one rollout, because code bases disagree on which
one counts and a table that mixes them is worthless. An episode that crashed is no failure of the
policy: it is kept with its error, counted, and left out of every rate.

Rows come in the order of the plan whatever the order in which workers finish, and neither tables
nor summary hold times: seconds would change the bytes of files that others depend on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualvla import config
from dualvla.conventions import ACTION_NAMES, ENVIRONMENT_STATE_NAMES, STATE_NAMES
from dualvla.errors import UserError
from dualvla.evaluation import failures, statistics
from dualvla.evaluation.outcomes import MODES, success
from dualvla.evaluation.protocol import Planned
from dualvla.interface import Decision
from dualvla.simulation.episodes import Job, Trajectory

KEY = ["starts", "task", "start_id"]
EPISODES, STEPS = "results.parquet", "steps.parquet"  # files of an evaluation's folder

_COLUMN = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}


@dataclass(frozen=True, eq=False)
class Kept:
    """All that is kept of one episode."""

    row: dict[str, Any]
    steps: pd.DataFrame
    seconds: float  # wall-clock time of its decisions


@dataclass(frozen=True)
class Outcome:
    """All that is kept of a set of episodes."""

    episodes: pd.DataFrame
    steps: pd.DataFrame
    seconds: float  # wall-clock time of all decisions


def collect(
    planned: Sequence[Planned], trajectories: Iterable[Trajectory], mode: config.SuccessMode
) -> Outcome:
    """Turn trajectories, in any order, into tables in the order of the plan.

    Args:
        planned: what was asked for.
        trajectories: one for each planned episode; pictures are dropped as they pass.
        mode: success mode that failures are told by.

    Raises:
        RuntimeError: an episode that was not planned, came twice or never came.
    """
    places = places_of(planned)
    kept: dict[int, Kept] = {}
    for trajectory in trajectories:
        place = places[job_key(trajectory.job)]
        if place in kept:
            raise RuntimeError(f"episode {planned[place].key} came twice")
        kept[place] = keep(planned[place], trajectory, mode)
    if len(kept) != len(planned):
        raise RuntimeError(f"{len(planned)} episodes planned, {len(kept)} came back")
    return tables([kept[place] for place in range(len(planned))])


def places_of(planned: Sequence[Planned]) -> dict[tuple[str, str, int], int]:
    """Place in the plan of each job, by `job_key`."""
    return {job_key(item.job): index for index, item in enumerate(planned)}


def job_key(job: Job) -> tuple[str, str, int]:
    """What a trajectory is recognised by: task, start and seed, which no two episodes share."""
    return job.task, job.start.id, job.seed


def keep(item: Planned, trajectory: Trajectory, mode: config.SuccessMode) -> Kept:
    """What is kept of one episode."""
    seconds = float(np.sum(trajectory.decision_seconds))
    return Kept(episode_row(item, trajectory, mode), step_rows(item, trajectory), seconds)


def tables(kept: Sequence[Kept]) -> Outcome:
    """Tables of episodes in the order given."""
    episodes = pd.DataFrame([one.row for one in kept]).astype(EPISODE_TYPES)
    steps = pd.concat([one.steps for one in kept], ignore_index=True)
    return Outcome(episodes, steps, sum(one.seconds for one in kept))


# Nullable types: a crashed episode has neither success nor length.
EPISODE_TYPES: dict[str, str] = {
    **dict.fromkeys(("starts", "task", "start_id", "status", "error"), "string"),
    "seed": "int64",
    **dict.fromkeys(MODES, "boolean"),
    **dict.fromkeys(("first_success", "steps", "decisions", "texts", "tokens"), "Int32"),
    "failure": "string",  # failures.of
}


def episode_row(item: Planned, trajectory: Trajectory, mode: config.SuccessMode) -> dict[str, Any]:
    """One row of results.parquet; without success, steps and tokens if the episode crashed."""
    job = trajectory.job
    row: dict[str, Any] = dict.fromkeys(EPISODE_TYPES)
    row |= {"starts": item.starts, "task": job.task, "start_id": item.id, "seed": job.seed}
    row |= {"status": trajectory.status, "error": trajectory.error or None}
    if trajectory.status != "ok":
        return row
    succeeded = np.flatnonzero(trajectory.environment_states[:, _COLUMN["success"]] > 0.5)
    decisions = [decision for _, decision in trajectory.decisions]
    return row | {
        **success(trajectory.environment_states),
        "first_success": int(succeeded[0]) if len(succeeded) else None,
        "steps": len(trajectory.actions),
        "decisions": len(decisions),
        "texts": sum(wrote(decision) for decision in decisions),
        "tokens": sum(decision.tokens for decision in decisions),
        "failure": failures.of(trajectory.environment_states, trajectory.actions, mode),
    }


def wrote(decision: Decision) -> bool:
    """Whether a text was written at a decision; the token that chooses to act alone is none."""
    return decision.text is not None and decision.tokens > 1


def step_rows(item: Planned, trajectory: Trajectory) -> pd.DataFrame:
    """Rows of steps.parquet: T + 1 states, the action taken in each (NaN after the last), text.

    `text` is the reasoning in force; `decision` marks steps at which the policy was asked, `wrote`
    those at which it wrote a new text. A crashed episode has no rows.
    """
    job = trajectory.job
    count = len(trajectory.states) if trajectory.status == "ok" else 0
    decided, written = np.zeros(count, bool), np.zeros(count, bool)
    for step, decision in trajectory.decisions if count else []:
        decided[step], written[step] = True, wrote(decision)
    columns: dict[str, Any] = {
        "starts": pd.Series([item.starts] * count, dtype="string"),
        "task": pd.Series([job.task] * count, dtype="string"),
        "start_id": pd.Series([item.id] * count, dtype="string"),
        "step": np.arange(count, dtype=np.int32),
        "decision": decided,
        "wrote": written,
        "text": pd.Series(texts_in_force(trajectory, count), dtype="string"),
    }
    actions = np.full((count, len(ACTION_NAMES)), np.nan, np.float32)
    states = np.zeros((count, len(STATE_NAMES)), np.float32)
    environment = np.zeros((count, len(ENVIRONMENT_STATE_NAMES)), np.float32)
    if count:
        actions[:-1] = trajectory.actions
        states[:], environment[:] = trajectory.states, trajectory.environment_states
    columns |= {f"state.{name}": states[:, i] for i, name in enumerate(STATE_NAMES)}
    columns |= {f"action.{name}": actions[:, i] for i, name in enumerate(ACTION_NAMES)}
    columns |= {name: environment[:, i] for i, name in enumerate(ENVIRONMENT_STATE_NAMES)}
    return pd.DataFrame(columns)


def texts_in_force(trajectory: Trajectory, count: int) -> list[str | None]:
    """The reasoning in force at each of the first `count` steps."""
    texts: list[str | None] = [None] * count
    for step, decision in trajectory.decisions:
        texts[step:] = [decision.text] * max(0, count - step)
    return texts


def rates(episodes: pd.DataFrame, mode: str) -> list[dict[str, Any]]:
    """Success rates of each set of starts: its tasks together (`all`), then each task.

    Rows have starts, task, k, n, errors, rate, low and high; crashed episodes count in `errors`
    alone.
    """
    rows = []
    for starts, of_starts in episodes.groupby("starts", sort=False):
        parts = [("all", of_starts), *of_starts.groupby("task", sort=False)]
        for task, part in parts:
            rows.append({"starts": str(starts), "task": str(task)} | _rate(part, mode))
    return rows


def line(row: dict[str, Any]) -> str:
    """A rate for people: starts, task, percent with its interval, n."""
    share = "no episode" if row["rate"] is None else f"{row['rate']:6.1%}"
    interval = f"[{row['low']:.1%}, {row['high']:.1%}]"
    errors = f", {row['errors']} errors" if row["errors"] else ""
    return f"{row['starts']:10} {row['task']:9} {share} {interval} {row['k']}/{row['n']}{errors}"


def summary(outcome: Outcome, mode: config.SuccessMode) -> dict[str, Any]:
    """Rates in the reported mode, totals in all modes, and the tokens a decision cost."""
    ran = outcome.episodes[outcome.episodes["status"] == "ok"]
    decisions = int(ran["decisions"].sum())
    tokens, texts = int(ran["tokens"].sum()), int(ran["texts"].sum())
    return {
        "success_mode": mode,
        "rates": rates(outcome.episodes, mode),
        "modes": {name: _rate(outcome.episodes, name) for name in MODES},
        "decisions": decisions,
        "tokens_per_decision": tokens / decisions if decisions else None,
        "texts_per_decision": texts / decisions if decisions else None,
    }


def compare(first: pd.DataFrame, second: pd.DataFrame, mode: str) -> list[dict[str, Any]]:
    """Two models on the same starts: exact McNemar and the paired difference.

    Args:
        first: episodes of one model.
        second: episodes of another; pairs are matched by `KEY`.
        mode: success mode compared.

    Returns:
        a row for each set of starts and each task (`all` first) with n, both, first_only,
        second_only, neither, left_out (a crash on either side), difference (first minus second),
        low, high and p.

    Raises:
        UserError: the two did not run the same episodes with the same seeds.
    """
    columns = [*KEY, "seed", "status", mode]
    merged = first[columns].merge(
        second[columns], on=KEY, how="outer", indicator="side", validate="one_to_one"
    )
    if not ((merged["side"] == "both") & (merged["seed_x"] == merged["seed_y"])).all():
        fix = "evaluate both with the same starts, tasks and seed"
        raise UserError("the two models did not run the same episodes", fix=fix)
    rows = []
    for starts in first["starts"].unique():
        part = merged[merged["starts"] == starts]
        tasks = first.loc[first["starts"] == starts, "task"].unique()
        for task in ("all", *tasks):
            chosen = part if task == "all" else part[part["task"] == task]
            rows.append({"starts": str(starts), "task": str(task)} | _paired(chosen, mode))
    return rows


def _paired(pairs: pd.DataFrame, mode: str) -> dict[str, Any]:
    usable = pairs[(pairs["status_x"] == "ok") & (pairs["status_y"] == "ok")]
    one, other = usable[f"{mode}_x"].to_numpy(bool), usable[f"{mode}_y"].to_numpy(bool)
    counts = {
        "n": len(usable),
        "both": int((one & other).sum()),
        "first_only": int((one & ~other).sum()),
        "second_only": int((~one & other).sum()),
        "neither": int((~one & ~other).sum()),
        "left_out": len(pairs) - len(usable),
    }
    if not len(usable):
        return counts | {"difference": None, "low": -1.0, "high": 1.0, "p": 1.0}
    difference, low, high = statistics.paired_difference(one, other)
    low, high = _spread(usable, one.astype(float) - other, low, high)
    p = statistics.mcnemar(counts["first_only"], counts["second_only"])
    return counts | {"difference": difference, "low": low, "high": high, "p": p}


def _rate(episodes: pd.DataFrame, mode: str) -> dict[str, Any]:
    ran = episodes[episodes["status"] == "ok"]
    counted = statistics.rate(int(ran[mode].sum()), len(ran))
    low, high = _spread(ran, ran[mode].to_numpy(float), counted["low"], counted["high"])
    return counted | {"low": low, "high": high, "errors": len(episodes) - len(ran)}


def _spread(
    episodes: pd.DataFrame, values: NDArray[np.float64], low: float, high: float
) -> tuple[float, float]:
    """An interval, wider where starts return: what they have in common is no certainty."""
    starts = episodes["starts"] + " " + episodes["task"] + " " + episodes["start_id"]
    starts = starts.str.split("#").str[0]
    if starts.is_unique:
        return low, high
    return statistics.wider(statistics.by_start(list(starts), values), low, high)
