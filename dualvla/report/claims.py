"""What the ablation claims: paired comparisons of models, and the paper's claims as sentences.

The same starts return under every seed, and all episodes of a seed share one training run, so that
pooled episodes are not independent. Each paired difference therefore has an interval over starts
and seeds, or the one of independent episodes where that is wider. McNemar's exact p over all pairs
is what the paired comparison asks for, but alone it would take three training runs for hundreds of
coin tosses: a model is called better only if both agree.

What is compared was fixed before anything was measured: every model against each of `REFERENCES`,
Holm over the models of one reference; and the paper's claims, Holm over the claims' comparisons.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dualvla.evaluation import statistics
from dualvla.report import comparisons

REFERENCES = ("specialist_ft", "generalist", "base_ft", "dualvla")
MARGIN = 0.05  # of success; a model that loses less is as good for the purpose
QUESTIONS_KEPT = 0.95  # of the generalist's held-out answers

# (claim, first, second): what the paper says is that the first succeeds less or more often.
CLAIMS = (
    ("degeneration", "generalist", "specialist_ft"),
    ("degeneration", "base_ft", "specialist_ft"),
    ("repair", "dualvla", "base_ft"),
    ("repair", "dualvla", "generalist"),
    ("pruning", "dualvla", "random_mask"),
)
# The same of this project's own arm, a family of its own: two streams (models.experts).
BEYOND = (("repair", "decoupled", "base_ft"), ("beyond", "decoupled", "dualvla"))
NON_INFERIOR = (("dualvla", "specialist_ft"), ("decoupled", "specialist_ft"))

Row = dict[str, Any]
Outcomes = Mapping[str, pd.DataFrame]  # by model: (starts, task, start_id) x seed, NaN: no outcome


def compare(outcomes: Outcomes) -> list[Row]:
    """Every model against every reference there is, by set of starts; Holm within a reference."""
    rows: list[Row] = []
    for reference in (name for name in REFERENCES if name in outcomes):
        others = [(model, reference) for model in outcomes if model != reference]
        rows += _family(outcomes, others)
    return rows


def told(outcomes: Outcomes, questions: Sequence[Row]) -> list[Row]:
    """The paper's claims, each a sentence that names a winner only where one is shown."""
    rows: list[Row] = []
    for group in (CLAIMS, BEYOND):
        named = [claim for claim in group if {claim[1], claim[2]} <= set(outcomes)]
        kinds = {(first, second): claim for claim, first, second in named}
        rows += [
            {"claim": kinds[row["first"], row["second"]], **row, "text": _sentence(row)}
            for row in _family(outcomes, list(kinds))
        ]
    kept = {row["model"]: row["of_generalist"] for row in questions}
    for wanted in NON_INFERIOR:
        if set(wanted) <= set(outcomes):
            for row in _family(outcomes, [wanted]):
                told = _non_inferior(row, kept.get(wanted[0]))
                rows.append({"claim": "non-inferiority", **row, "text": told})
    return rows


def pair(first: pd.DataFrame, second: pd.DataFrame) -> Row:
    """Two models on the same starts under the same seeds.

    Returns:
        n, both, first_only, second_only, neither, left_out; difference with low and high over
        starts and seeds; p of McNemar's exact test over all pairs.
    """
    one, other = first.to_numpy(np.float64), second.to_numpy(np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    a, b = one[known] > 0.5, other[known] > 0.5
    only = {"first_only": int((a & ~b).sum()), "second_only": int((~a & b).sum())}
    counts = {"n": len(a), "both": int((a & b).sum()), **only, "neither": int((~a & ~b).sum())}
    counts["left_out"] = int((~known).sum())
    if not len(a):
        return counts | {"difference": None, "low": -1.0, "high": 1.0, "p": 1.0}
    difference, low, high = statistics.crossed_difference(one, other)
    figures = {"difference": difference, "low": low, "high": high}
    return counts | figures | {"p": statistics.mcnemar(*only.values())}


def _family(outcomes: Outcomes, members: Sequence[tuple[str, str]]) -> list[Row]:
    """Comparisons over all tasks with Holm's p over `members`, for each set of starts."""
    rows: list[Row] = []
    for starts in next(iter(outcomes.values())).index.unique("starts"):
        found: list[Row] = [
            {"starts": str(starts), "first": first, "second": second}
            | pair(outcomes[first].loc[[starts]], outcomes[second].loc[[starts]])
            for first, second in members
        ]
        comparisons.decide(found)
        rows += found
    return rows


def _sentence(row: Row) -> str:
    if not row["n"]:
        return f"{row['first']} and {row['second']} have no pair of episodes in common."
    if row["winner"] is None:
        return f"No difference is shown between {row['first']} and {comparisons.plainly(row)}."
    return f"{comparisons.told_of(row)}."


def _non_inferior(row: Row, kept: float | None) -> str:
    if not row["n"]:
        return _sentence(row)
    first, points = row["first"], 100 * MARGIN
    if row["low"] > -MARGIN:
        said = f"{first} loses less than {points:g} points against {comparisons.plainly(row)}"
    elif row["winner"] == row["second"]:
        said = f"{comparisons.told_of(row)}"
    else:
        said = (
            f"Whether {first} loses less than {points:g} points against {comparisons.plainly(row)} "
            "is not decided"
        )
    if kept is None:
        return f"{said}; the generalist answers no held-out question."
    enough = "at least" if kept >= QUESTIONS_KEPT else "less than"
    share = f"{100 * kept:.1f} % of the generalist's held-out answers"
    return f"{said}; it keeps {share}, {enough} {100 * QUESTIONS_KEPT:g} %."
