"""Scores out of what lmms-eval and the judge left behind.

`harness_score` is lmms-eval's metric on the published scale of 0 to 100. It is repeated as `score`
only where it is the benchmark's: every row of the pinned data set, each judged. A number from rows
made here, from a part, or with a row that the judge left out never stands under that name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dualvla.errors import UserError
from dualvla.evaluation import statistics
from dualvla.evaluation.multimodal.data import BENCHMARK, Source
from dualvla.evaluation.multimodal.tasks import Benchmark

Raw = Mapping[str, Any]  # what the adapter wrote of one task and repeat


def metric(benchmark: Benchmark, raw: Raw) -> float:
    """lmms-eval's metric, 0 to 100.

    Raises:
        UserError: lmms-eval gave none.
    """
    value = raw["results"].get(f"{benchmark.metric},none")
    if not isinstance(value, int | float):
        raise UserError(
            f"lmms-eval gave no {benchmark.metric} for {benchmark.task}",
            where=benchmark.title,
            fix="see lmms-eval.log beside the results",
        )
    share = 1.0 if benchmark.per is None else benchmark.per / len(raw["samples"])
    return float(value) * benchmark.scale * share


def interval(score: float, rows: int) -> list[float]:
    """Wilson's 95 % bounds of a score, 0 to 100.

    A row's score in [0, 1] varies at most as much as right or wrong does, so that they are too wide
    rather than too narrow where rows can be half right, and right where all are alike.
    """
    return [100 * bound for bound in statistics.wilson(round(score / 100 * rows), rows)]


def unjudged(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Reasons of the rows that have no score of the judge; its last word on a row counts."""
    last = {(v["repeat"], v["prompt"]): v for v in verdicts}
    return [str(v["error"]) for v in last.values() if v["content"] is None]


def summarise(
    benchmark: Benchmark,
    source: Source,
    raws: Sequence[Raw],
    answers: Sequence[Mapping[str, Any]],
    *,
    judge: Mapping[str, Any] | None,
    verdicts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One benchmark's part of the summary.

    Args:
        benchmark: which.
        source: of its rows.
        raws: a repeat each.
        answers: the ledger's rows of its task.
        judge: what is recorded of the judge; None without one.
        verdicts: what the judge said.
    """
    failed = unjudged(verdicts)
    scores = [metric(benchmark, raw) for raw in raws]
    count = len(raws[0]["samples"])
    whole = count == benchmark.rows
    score = None if failed else sum(scores) / len(scores)
    counts = score is not None and whole and source.label == BENCHMARK
    part = "" if whole or source.label != BENCHMARK else f"part of the {BENCHMARK}"
    prompts = "\0".join(r["prompt"] for r in sorted(answers, key=lambda r: (r["row"], r["key"])))
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "source": benchmark.source,
        "task": benchmark.task,
        "dataset": benchmark.dataset,
        "config": benchmark.config,
        "split": benchmark.split,
        **source.to_json(),
        "label": part or source.label,
        "n": count,
        "rows": benchmark.rows,
        "metric": benchmark.metric,
        "status": "error" if failed else "ok",
        "error": f"{len(failed)} rows not judged: {failed[0]}" if failed else None,
        "harness_score": score,
        "interval": None if score is None else interval(score, count),
        "score": score if counts else None,
        "repeats": len(raws),
        "repeat_scores": None if failed else scores,
        "judge": judge
        and {
            **judge,
            "served": sorted({v["served"] for v in verdicts}),
            "prompt_sha256": raws[0]["judge_prompt_sha256"],
        },
        "prompts_sha256": hashlib.sha256(prompts.encode()).hexdigest(),
        "definition_sha256": raws[0]["definition_sha256"],
        "cut_questions": sum(r["cut"] > 0 for r in answers),
        "longest_answer": max(r["limit"] for r in answers),
    }


def mean(parts: Sequence[Mapping[str, Any]], wanted: int) -> dict[str, Any] | None:
    """Mean of the benchmarks' scores as papers give it; None unless all of them count."""
    scores = [p["score"] for p in parts if p["score"] is not None]
    if len(scores) != wanted:
        return None
    return {"score": sum(scores) / wanted, "benchmarks": wanted}
