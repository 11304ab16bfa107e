"""Which model is better: paired tests on the same starts, and one sentence that says so.

Two rates with overlapping intervals can still differ, and two unequal rates need not: only pairs
of episodes from the same start decide (McNemar's exact test, and an interval for the paired
difference). A model is called better only if Holm's correction over the family of comparisons
leaves p below 0.05 and the interval excludes zero; everything else reads "no difference shown".

The family is fixed in advance: the repaired model against each other model, and the generalist
against the specialist it came from. Per-task comparisons are a family of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dualvla.evaluation import simpler, statistics

SIGNIFICANCE = 0.05
REPAIRED = "dualvla"
# What the headline speaks of, most telling first: the fair control, the placebo, the start.
HEADLINE = ("base_ft", "random_mask", "generalist")

Row = dict[str, Any]


def pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """The comparisons made for these models, fixed in advance."""
    found = [(REPAIRED, other) for other in models if REPAIRED in models and other != REPAIRED]
    if "generalist" in models and "specialist" in models:
        found.append(("generalist", "specialist"))
    return found


def compare(episodes: Mapping[str, pd.DataFrame], mode: str) -> list[Row]:
    """Every comparison for every set of starts and every task, `all` first.

    Args:
        episodes: the episodes of each model, in report order.
        mode: the success mode compared.

    Returns:
        the rows of `simpler.compare` with first, second and what `decide` adds.

    Raises:
        UserError: two models did not run the same episodes.
    """
    rows: list[Row] = []
    for first, second in pairs(list(episodes)):
        compared = simpler.compare(episodes[first], episodes[second], mode)
        rows += [{"first": first, "second": second, **row} for row in compared]
    for family in dict.fromkeys(map(_family, rows)):
        decide([row for row in rows if _family(row) == family])
    return rows


def decide(family: Sequence[Row]) -> None:
    """Add to comparisons made together what they show.

    Each gets p_holm; winner, the model shown to be better, or None; and detectable, the true
    difference in (0, 1] that as many pairs, with as many that differ, show four times in five at
    the strictest step of Holm's correction. None: no difference at all. Where the same start
    returns under several seeds, more than that is needed.
    """
    for row, p in zip(family, statistics.holm([row["p"] for row in family]), strict=True):
        row["p_holm"] = p
        row["winner"] = winner(row)
        differ = (row["first_only"] + row["second_only"]) / max(row["n"], 1)
        row["detectable"] = statistics.detectable(row["n"], differ, SIGNIFICANCE / len(family))


def verdict(rows: Sequence[Row], starts: str, models: Sequence[str]) -> Row:
    """The headline: one sentence from the comparisons over all tasks of one set of starts."""
    told = [
        row
        for other in HEADLINE
        for row in rows
        if (row["first"], row["second"]) == (REPAIRED, other)
        and (row["starts"], row["task"]) == (starts, "all")
        and row["n"]
    ]
    if not told:
        text = f"Nothing to compare: {', '.join(models)} evaluated, no pair of episodes in common."
        return {"text": text, "conclusive": False, "starts": starts, "n": 0}
    shown = [row for row in told if row["winner"] is not None]
    count = told[0]["n"]
    if not shown:
        body = "no difference is shown between dualvla and " + " or ".join(map(plainly, told))
    else:
        body = "; ".join(map(told_of, told))
    text = f"On the same {count} starts {body}."
    return {"text": text, "conclusive": bool(shown), "starts": starts, "n": count}


def winner(row: Row) -> str | None:
    """The model that a comparison with `p_holm` shows to be better, or None."""
    if row["p_holm"] >= SIGNIFICANCE or row["low"] <= 0 <= row["high"]:
        return None
    return str(row["first"] if row["difference"] > 0 else row["second"])


def _family(row: Row) -> tuple[str, bool]:
    return row["starts"], row["task"] == "all"


def told_of(row: Row) -> str:
    """A comparison in words, which names a model better only where it is shown."""
    if row["winner"] is None:
        return f"no difference is shown against {plainly(row)}"
    word = "more" if row["winner"] == row["first"] else "less"
    return f"{row['first']} succeeds {word} often than {plainly(row)}"


def plainly(row: Row) -> str:
    """The second model, and by how much the first differs."""
    difference, low, high = (100 * row[key] for key in ("difference", "low", "high"))
    interval = f"95 % interval {low:+.1f} to {high:+.1f}"
    least = row["detectable"]
    could = "nothing detectable" if least is None else f"detectable {100 * least:.1f} points"
    told = f"{interval}, p {_p(row['p_holm'])}, {could}"
    return f"{row['second']} ({difference:+.1f} points, {told})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
