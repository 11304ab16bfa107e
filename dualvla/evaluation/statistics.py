"""Intervals and paired tests for success rates.

A rate of 24 trials is uncertain by ten points, so no rate leaves this project without its n and its
interval, and two models are compared on the same starts, where most of the noise cancels. Exact and
closed forms where episodes are independent. Where the same starts return under several seeds they
are not, and starts and seeds are resampled by a fixed generator: same outcomes, same interval.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate.

    Returns:
        bounds in [0, 1]; (0, 1), all that is known, without trials.

    Raises:
        ValueError: not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not trials:
        return 0.0, 1.0
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    rate, weight = successes / trials, 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / weight
    half = z / weight * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    low = 0.0 if not successes else centre - half
    return low, 1.0 if successes == trials else centre + half


def rate(successes: int, trials: int) -> dict[str, Any]:
    """k, n, rate and its Wilson 95 % bounds low and high; rate is None without trials."""
    low, high = wilson(successes, trials)
    share = successes / trials if trials else None
    return {"k": successes, "n": trials, "rate": share, "low": low, "high": high}


def mean_interval(values: NDArray[np.floating], confidence: float = 0.95) -> list[float]:
    """Student's t interval of the mean of scores in [0, 1], cut to it; [0, 1] below two scores."""
    count = len(values)
    if count < 2:
        return [0.0, 1.0]
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    centre = float(np.mean(values))
    return [max(0.0, centre - half), min(1.0, centre + half)]


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar p-value from the two counts of discordant pairs."""
    discordant = first_only + second_only
    return float(min(1.0, 2 * stats.binom.cdf(min(first_only, second_only), discordant, 0.5)))


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two success rates on the same starts, with its interval.

    The interval is Bonett and Price's (2012): Wald's with one pair added to each discordant cell,
    which keeps its coverage at the few dozen pairs of an evaluation.

    Args:
        first: (n,) success of the first model on each start.
        second: (n,) success of the second on the same starts.
        confidence: of the interval.

    Returns:
        difference first minus second in [-1, 1], low, high.

    Raises:
        ValueError: no pairs, or not as many of one as of the other.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or not first.size:
        raise ValueError(f"pairs of {first.shape} and {second.shape}")
    pairs = len(first)
    difference = (int(first.sum()) - int(second.sum())) / pairs
    one = (int((first & ~second).sum()) + 1) / (pairs + 2)
    other = (int((~first & second).sum()) + 1) / (pairs + 2)
    error = math.sqrt((one + other - (one - other) ** 2) / (pairs + 2))
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    return difference, max(-1.0, one - other - half), min(1.0, one - other + half)


RESAMPLES = 10_000


def crossed_interval(
    values: NDArray[np.floating], confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Percentile interval of a mean over starts and seeds: both are resampled (Owen 2007).

    Whole rows and whole columns are drawn, each with replacement and independently, so that what
    outcomes of one start, or of one seed, have in common widens the interval. With R seeds about
    1/R of the variance between seeds is missed: at three seeds it is still somewhat too narrow.

    Args:
        values: (S, R) outcomes or paired differences by start and seed; NaN where there is none.
        confidence: of the interval.
        resamples: draws.

    Returns:
        low, high.

    Raises:
        ValueError: no value at all.
    """
    values = np.asarray(values, np.float64)
    there = np.isfinite(values)
    if values.ndim != 2 or not there.any():
        raise ValueError(f"nothing to resample in {values.shape}")
    starts, seeds = _draws(*values.shape, resamples)
    total = (starts @ np.where(there, values, 0.0).astype(np.float32) * seeds).sum(1)
    count = (starts @ there.astype(np.float32) * seeds).sum(1)
    means = total[count > 0] / count[count > 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@functools.lru_cache(maxsize=4)
def _draws(rows: int, columns: int, resamples: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """How often each row (resamples, rows) and each column is drawn; always the same."""
    draw = np.random.default_rng(0)
    starts = draw.multinomial(rows, np.full(rows, 1 / rows), resamples)
    seeds = draw.multinomial(columns, np.full(columns, 1 / columns), resamples)
    return starts.astype(np.float32), seeds.astype(np.float32)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values for a family of comparisons, in the order given."""
    adjusted, worst = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        worst = max(worst, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = worst
    return adjusted
