"""Intervals and paired tests for success rates.

A rate of 24 trials is uncertain by ten points, so no rate leaves this project without its n and its
interval, and two models are compared on the same starts, where most of the noise cancels. Exact and
closed forms where episodes are independent. Where the same starts return under several seeds they
are not, and starts and seeds are resampled by a fixed generator: same outcomes, same interval.

What the intervals keep of their promise, by exact enumeration: Wilson's covers the true rate with
95 % within a point on average over all rates, whatever the number of episodes; at one single rate
it may miss by several points, as every interval of counts does. The paired one is within a point
from 48 pairs on, on average over models that differ in up to half of them. With fewer pairs, or
where few of them differ, it is conservative: it covers more often, and is wider than it must be.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats


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


def mean_interval(
    values: NDArray[np.floating], confidence: float = 0.95, least: float = 0.0
) -> list[float]:
    """Student's t interval of the mean of values in [least, 1], cut to it.

    All of [least, 1] below two values. Values that are all the same have no spread to tell from;
    the interval then reaches as far as Wilson's of as many trials of which none succeeds.
    """
    count = len(values)
    if count < 2:
        return [least, 1.0]
    spread, centre = float(np.std(values, ddof=1)), float(np.mean(values))
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * spread / math.sqrt(count)
    half = half if np.ptp(values) > 0 else wilson(0, count, confidence)[1]
    return [max(least, centre - half), min(1.0, centre + half)]


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar p-value from the two counts of discordant pairs."""
    discordant = first_only + second_only
    return float(min(1.0, 2 * stats.binom.cdf(min(first_only, second_only), discordant, 0.5)))


def mcnemar_power(pairs: int, discordance: float, difference: float, alpha: float) -> float:
    """Chance that McNemar's exact test comes out below `alpha`; exact over all outcomes.

    Args:
        pairs: number of them.
        discordance: true share of pairs in which the two models differ, in [0, 1].
        difference: true difference of the two rates; its size is at most `discordance`.
        alpha: level of the test.
    """
    if not discordance:
        return 0.0
    counts, most = np.arange(pairs + 1), _significant(pairs, alpha)
    share = (discordance + difference) / (2 * discordance)
    shown = stats.binom.cdf(most, counts, share) + stats.binom.cdf(most, counts, 1 - share)
    return float(stats.binom.pmf(counts, pairs, discordance) @ shown)


@functools.lru_cache(maxsize=64)
def _significant(pairs: int, alpha: float) -> NDArray[np.float64]:
    """By number of discordant pairs, 0 to `pairs`: how many of the rarer kind at most; -1: none."""
    return stats.binom.ppf(alpha / 2, np.arange(pairs + 1), 0.5) - 1


def detectable(
    pairs: int, discordance: float, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Smallest true difference of two rates that McNemar's exact test shows with chance `power`.

    Args:
        pairs: number of them.
        discordance: share of pairs in which the two models differ; where it is smaller than a
            difference that is tried, all pairs that differ do so in one direction.
        alpha: level of the test, 0.05 over the number of comparisons of a family.
        power: wanted.

    Returns:
        the difference in (0, 1]; None if so few pairs can show none.
    """

    def lacking(difference: float) -> float:
        return power - mcnemar_power(pairs, max(discordance, difference), difference, alpha)

    if lacking(1.0) > 0:
        return None
    return float(optimize.brentq(lacking, 0.0, 1.0, xtol=1e-6))


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


def wider(values: NDArray[np.floating], low: float, high: float) -> tuple[float, float]:
    """The interval of `values` (S, R) over starts and seeds, or what of [low, high] is beyond it.

    `low` and `high` are those of independent episodes, which a bootstrap of few rows can undercut.
    """
    if not np.isfinite(values).any():
        return low, high
    crossed = crossed_interval(values)
    return min(low, crossed[0]), max(high, crossed[1])


def crossed_difference(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[float, float, float]:
    """Difference of two success rates over the same starts and seeds, with its interval.

    The wider one of `crossed_interval` of the paired differences and `paired_difference`.

    Args:
        first: (S, R) outcomes of the first model by start and seed; NaN where there is none.
        second: (S, R) of the second, on the same starts under the same seeds.

    Returns:
        difference first minus second in [-1, 1], low, high.

    Raises:
        ValueError: no pair, or not the same starts and seeds.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"pairs of {first.shape} and {second.shape}")
    known = np.isfinite(first) & np.isfinite(second)
    difference, *bounds = paired_difference(first[known] > 0.5, second[known] > 0.5)
    return difference, *wider(np.where(known, first - second, np.nan), *bounds)


def by_start(starts: Sequence[str], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Outcomes (n,) of starts that return, as (S, R): a row a start, in order of appearance.

    R is the most that any start has; the rest is NaN.
    """
    rows: dict[str, list[float]] = {}
    for start, value in zip(starts, values, strict=True):
        rows.setdefault(start, []).append(float(value))
    table = np.full((len(rows), max(map(len, rows.values()), default=0)), np.nan)
    for place, row in enumerate(rows.values()):
        table[place, : len(row)] = row
    return table


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
