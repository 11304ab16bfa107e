"""The VLA Score: four ratings and the simulator's success as one number (DualVLA, evaluation).

Score of one trajectory, ratings scaled to [0, 1], B in {0, 1} the success: a reasoning model gets
((R + A I) / 2) RA B, a specialist A I B. A model's score is the mean of these products, never the
product of the means; the paper's own table fits only the former. The two formulas give different
scales, so every score carries its label and a specialist's is not comparable with a reasoner's.
B multiplies everything: score over success and the raw means are reported beside it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from dualvla.evaluation import statistics
from dualvla.evaluation.judges import Ratings

Scale = Literal["specialist", "reasoning"]

RATINGS = ("r", "a", "i", "ra")
COLUMN_TYPES = {
    **dict.fromkeys(RATINGS, "Int8"),  # null where the scale has no such rating
    "success": "bool",
    "score": "float64",
    "failures": "string",
}


def scale_of(model: str, reason: str) -> Scale:
    """Which formula applies: specialists, and models told never to reason, have no text to rate."""
    return "specialist" if model == "specialist" or reason == "never" else "reasoning"


def score(ratings: Ratings, success: bool) -> float:
    """Score of one trajectory in [0, 1]; on the specialist scale where R and RA are None."""
    motion = ratings.action / 10 * ratings.intention / 10
    if ratings.reasoning is None or ratings.alignment is None:
        return motion * success
    return (ratings.reasoning / 10 + motion) / 2 * (ratings.alignment / 10) * success


def row(ratings: Ratings, success: bool) -> dict[str, Any]:
    """Columns of scores.parquet for one trajectory: integers 0-10, success, score in [0, 1]."""
    return {
        "r": ratings.reasoning,
        "a": ratings.action,
        "i": ratings.intention,
        "ra": ratings.alignment,
        "success": success,
        "score": score(ratings, success),
        "failures": "; ".join(ratings.failures),
    }


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Means over trajectories, all in [0, 1]; r and ra are None on the specialist scale.

    Returns:
        n, r, a, i, ra, success, score, score_per_success (None without success), success_rate (k of
        n with its interval), score_interval (95 %, Student's t) and failures (how many trajectories
        have each).
    """
    count = len(rows)
    means = {name: _mean(rows[name]) for name in (*RATINGS, "success", "score")}
    scaled = {k: v / 10 if k in RATINGS and v is not None else v for k, v in means.items()}
    success, value = scaled["success"], scaled["score"]
    named = Counter(name for text in rows["failures"] for name in text.split("; ") if name)
    return {
        "n": count,
        **scaled,
        "success_rate": statistics.rate(int(rows["success"].sum()), count),
        "score_interval": statistics.mean_interval(rows["score"].to_numpy(float)),
        "score_per_success": value / success if value is not None and success else None,
        "failures": dict(sorted(named.items())),
    }


def bounds(means: Mapping[str, float], scale: Scale) -> tuple[float, float]:
    """Least and greatest score that is possible with these means of r, a, i, ra and success.

    Frechet's bounds for means of products of numbers in [0, 1], which is all that a table of means
    determines about a score.
    """
    a, i, success = means["a"], means["i"], means["success"]
    low, high = max(0.0, a + i - 1), min(a, i)
    if scale == "reasoning":
        low, high = (means["r"] + low) / 2, (means["r"] + high) / 2
        low, high = max(0.0, low + means["ra"] - 1), min(high, means["ra"])
    return max(0.0, low + success - 1), min(high, success)


def _mean(values: "pd.Series") -> float | None:
    known = values.dropna()
    return float(known.astype(float).mean()) if len(known) else None
