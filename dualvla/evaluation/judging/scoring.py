"""Ratings of an evaluation by a judge as the tables of the VLA Score.

Every episode that ran has a row; one that the judge could not rate has status `error`, the reason
and no ratings, is counted, and is left out of every mean.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from dualvla import config, files, progress
from dualvla.errors import UserError
from dualvla.evaluation import judges, simpler, vla_score
from dualvla.evaluation.judging import cases, endpoint, knowledge
from dualvla.evaluation.judging.cases import Case, Verdict
from dualvla.evaluation.judging.llm import LlmJudge

SCHEMA = 1
Name = Literal["rules", "llm"]
Judge = Callable[[Sequence[Case], bool], list[Verdict]]

COLUMNS = {
    **dict.fromkeys(("model", *simpler.KEY), "string"),
    **vla_score.COLUMN_TYPES,
    "score": "Float64",
    "status": "string",
    "error": "string",
}


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's ratings."""

    scores: pd.DataFrame  # COLUMNS, a row an episode that ran
    summary: dict[str, Any]
    answers: list[dict[str, Any]]  # of the llm judge, as given


def judge_of(score: config.Score) -> Judge:
    """The judge that parameters name; the llm judge's endpoint comes from the environment.

    Raises:
        UserError: no endpoint, or a knowledge base that is not what it should be.
    """
    if score.judge == "rules":
        return by_rules
    base = None
    if score.knowledge is not None:
        folder, _, version = score.knowledge.rpartition("@")
        base = knowledge.load(folder, version)
    return LlmJudge(
        endpoint.from_environment(),
        frames=score.frames,
        repeats=score.repeats,
        knowledge=base,
        examples=score.examples,
    )


def by_rules(found: Sequence[Case], speaks: bool) -> list[Verdict]:
    """The rules judge."""
    return [Verdict(judges.rules(case.clip, speaks)) for case in found]


def rate(folder: Path, model: str, score: config.Score, judge: Judge | None = None) -> Scored:
    """Rate the trajectories of an evaluation folder.

    Args:
        folder: results/evaluate/MODEL.
        model: its name, which decides the scale together with when it reasons.
        score: which judge, and how.
        judge: that judge, if it is at hand.

    Raises:
        UserError: a missing file, or no picture at all for a judge that looks.
    """
    evaluated = cases.read(folder, score.episodes_per_task)
    judge = judge or judge_of(score)
    looks = isinstance(judge, LlmJudge)
    if looks and evaluated.cases and not any(case.film for case in evaluated.cases):
        fix = "evaluate again with evaluate.videos_per_task above 0"
        raise UserError("no episode has a video to show", where=str(folder), fix=fix)
    scale = vla_score.scale_of(model, evaluated.reason)
    verdicts = judge(evaluated.cases, scale == "reasoning")
    rows = [_row(model, *pair) for pair in zip(evaluated.cases, verdicts, strict=True)]
    scores = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    rated = scores[scores["status"] == "ok"]
    unrated = Counter(str(verdict.error) for verdict in verdicts if verdict.ratings is None)
    summary = {
        "schema": SCHEMA,
        "model": model,
        "judge": score.judge,
        "scale": scale,
        "success_mode": evaluated.success_mode,
        "errors": evaluated.crashed + unrated.total(),
        "tasks": {str(t): vla_score.summary(part) for t, part in rated.groupby("task")},
    }
    summary |= vla_score.summary(rated)
    if isinstance(judge, LlmJudge):
        summary["llm"] = judge.about(verdicts) | {"unrated": dict(sorted(unrated.items()))}
    answers = [
        dict(zip(simpler.KEY, case.key, strict=True)) | dict(answer)
        for case, verdict in zip(evaluated.cases, verdicts, strict=True)
        for answer in verdict.answers
    ]
    return Scored(scores, summary, answers)


def write(scored: Scored, out: Path) -> None:
    """Write scores.parquet, summary.json and, of the llm judge, answers.jsonl; say the score."""
    out.mkdir(parents=True)
    summary = scored.summary
    scored.scores.to_parquet(out / "scores.parquet", index=False)
    files.write_json(out / "summary.json", summary)
    if "llm" in summary:
        lines = [json.dumps(answer, sort_keys=True) + "\n" for answer in scored.answers]
        files.write_text(out / "answers.jsonl", "".join(lines))
        for reason, count in summary["llm"]["unrated"].items():
            progress.log(f"{count} not rated: {reason}")
        cost = summary["llm"]["cost"]
        spent = "cost unknown" if cost is None else f"cost {cost:.4f}"
        progress.log(f"{summary['llm']['requests']} requests in these answers, {spent}")
    value = "no trajectory" if summary["score"] is None else f"{summary['score']:.3f}"
    scale = f"{summary['scale']} scale, {summary['judge']} judge"
    progress.log(f"VLA Score of {summary['model']} ({scale}): {value}, n = {summary['n']}")


def _row(model: str, case: Case, verdict: Verdict) -> Mapping[str, Any]:
    row = {"model": model, **dict(zip(simpler.KEY, case.key, strict=True))}
    if verdict.ratings is None:
        return row | {"success": case.success, "status": "error", "error": verdict.error}
    return row | vla_score.row(verdict.ratings, case.success) | {"status": "ok"}
