"""Calibration of a judge: by how many points does each planted fault lower its own dimension?

The same trajectories are rated as they are and with each fault, and the differences are paired, so
that how good a trajectory was cancels. A fault counts as seen if the whole interval of its drop
lies above zero. The drops of the others stand beside it: some faults rightly cost more than one.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from dualvla.errors import UserError
from dualvla.evaluation.judging.cases import Case, Verdict
from dualvla.evaluation.judging.faults import FAULTS, plant
from dualvla.evaluation.judging.llm import DIMENSIONS, LlmJudge
from dualvla.evaluation.judging.scoring import Judge

SCHEMA = 1


def calibrate(judge: Judge, name: str, cases: Sequence[Case], source: str) -> dict[str, Any]:
    """Rate cases with and without each fault.

    Args:
        judge: to calibrate.
        name: of it.
        cases: whose texts and actions are right.
        source: where they come from, for people.

    Returns:
        schema, judge, source, n, tasks, baseline (mean ratings, 0 to 10), faults: a row each with
        fault, dimension, n, left_out (nothing to spoil, or not rated), drop and its 95 % interval
        low, high in points, lowered, others (mean drop of the other dimensions); llm (about it).

    Raises:
        UserError: fewer than two cases could be rated.
    """
    sound = judge(cases, True)
    rated = [verdict.ratings for verdict in sound if verdict.ratings is not None]
    if len(rated) < 2:
        reasons = sorted({verdict.error for verdict in sound if verdict.error})
        what = f"{len(rated)} of {len(cases)} trajectories could be rated: {'; '.join(reasons)}"
        raise UserError(what, where=source, fix="two are needed at least")
    verdicts = list(sound)
    rows = []
    for fault, (dimension, _) in FAULTS.items():
        planted = [
            (before, faulty)
            for case, before in zip(cases, sound, strict=True)
            if (faulty := plant(fault, case)) is not None
        ]
        after = judge([faulty for _, faulty in planted], True)
        verdicts += after
        pairs = [
            (before, verdict)
            for (before, _), verdict in zip(planted, after, strict=True)
            if before.ratings is not None and verdict.ratings is not None
        ]
        drops = {name: _drops(pairs, name) for name in DIMENSIONS}
        mean, low, high = interval(drops[dimension])
        rows.append(
            {
                "fault": fault,
                "dimension": dimension,
                "n": len(pairs),
                "left_out": len(cases) - len(pairs),
                "drop": mean,
                "low": low,
                "high": high,
                "lowered": low is not None and low > 0,
                "others": {
                    other: float(np.mean(values)) if len(values) else None
                    for other, values in drops.items()
                    if other != dimension
                },
            }
        )
    about = {"llm": judge.about(verdicts)} if isinstance(judge, LlmJudge) else {}
    return {
        "schema": SCHEMA,
        "judge": name,
        "source": source,
        "n": len(cases),
        "tasks": dict(sorted(Counter(case.key[1] for case in cases).items())),
        "baseline": {
            name: float(np.mean([getattr(ratings, name) for ratings in rated]))
            for name in DIMENSIONS
        },
        "faults": rows,
        **about,
    }


def interval(
    values: "np.typing.ArrayLike", confidence: float = 0.95
) -> tuple[float | None, float | None, float | None]:
    """Mean and Student's t interval; bounds are None below two values, and all without any."""
    found = np.asarray(values, float)
    if not len(found):
        return None, None, None
    mean = float(found.mean())
    if len(found) < 2:
        return mean, None, None
    error = float(found.std(ddof=1)) / np.sqrt(len(found))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(found) - 1)) * float(error)
    return mean, mean - half, mean + half


def markdown(found: dict[str, Any]) -> str:
    """The table for people."""
    tasks = ", ".join(f"{name} {count}" for name, count in found["tasks"].items())
    means = ", ".join(f"{name} {value:.2f}" for name, value in found["baseline"].items())
    lines = [
        f"Judge `{found['judge']}` on {found['n']} trajectories of {found['source']} ({tasks}). "
        f"Mean ratings without a fault, of 10: {means}.",
        "",
        "| planted fault | should lower | n | mean drop, points of 10 | 95 % interval | lowered | "
        "mean drop of the others |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["faults"]:
        others = ", ".join(f"{name} {_points(value)}" for name, value in row["others"].items())
        bounds = f"{_points(row['low'])} to {_points(row['high'])}"
        seen = "yes" if row["lowered"] else "no"
        cells = (row["fault"], row["dimension"], row["n"], _points(row["drop"]), bounds, seen)
        lines.append(f"| {' | '.join(map(str, cells))} | {others} |")
    if "llm" in found:
        about = found["llm"]
        lines += [
            "",
            f"Model {about['model']} at {about['host']}, rubric {about['rubric']['version']} "
            f"({about['rubric']['sha256'][:12]}), {about['repeats']} answers a trajectory, "
            f"{about['requests']} requests.",
        ]
    return "\n".join(lines) + "\n"


def _drops(pairs: Sequence[tuple[Verdict, Verdict]], name: str) -> list[float]:
    return [float(getattr(one.ratings, name) - getattr(two.ratings, name)) for one, two in pairs]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
