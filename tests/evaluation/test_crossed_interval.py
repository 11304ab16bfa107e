"""The interval over starts and seeds, against cases with a known answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dualvla.evaluation import statistics


def outcomes(rows: int, columns: int, seed: int, p: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).random((rows, columns)) < p).astype(float)


def test_one_seed_is_the_ordinary_bootstrap_of_the_starts():
    values = outcomes(200, 1, 0)
    mean, error = values.mean(), values.std() / np.sqrt(200)
    wanted = stats.norm.interval(0.95, mean, error)
    assert statistics.crossed_interval(values) == pytest.approx(wanted, abs=0.006)


def test_repeating_every_start_under_other_seeds_adds_no_certainty():
    once = outcomes(150, 1, 1)
    low, high = statistics.crossed_interval(once)
    again = statistics.crossed_interval(np.repeat(once, 3, axis=1))
    assert again == pytest.approx((low, high), abs=0.01)
    # Counted as independent episodes the interval would be narrower by the root of three.
    wilson = statistics.wilson(int(3 * once.sum()), 450)
    assert again[1] - again[0] > 1.6 * (wilson[1] - wilson[0])


def test_a_difference_that_hangs_on_one_seed_is_not_shown():
    values = np.zeros((136, 3))
    values[:, 0] = 1.0  # one training run differs at every start, two at none
    low, high = statistics.crossed_interval(values)
    assert (low, high) == (0.0, 1.0)
    assert statistics.mcnemar(136, 0) < 1e-20  # pairs counted as independent would be certain


def test_independent_episodes_are_covered_about_as_often_as_said():
    covered = 0
    for trial in range(200):
        low, high = statistics.crossed_interval(outcomes(60, 3, trial, 0.6), resamples=1000)
        covered += low <= 0.6 <= high
    # Owen: the variance is never too small where nothing is shared; three columns cost little.
    assert covered >= 184


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 999))
def test_the_interval_holds_the_mean_and_ignores_the_order(rows, columns, seed):
    values = outcomes(rows, columns, seed)
    values[0, 0] = np.nan if rows * columns > 1 else values[0, 0]
    low, high = statistics.crossed_interval(values, resamples=2000)
    assert 0 <= low <= np.nanmean(values) + 1e-9
    assert np.nanmean(values) - 1e-9 <= high <= 1
    assert statistics.crossed_interval(values, resamples=2000) == (low, high)


def test_no_outcome_has_no_interval():
    with pytest.raises(ValueError, match="nothing"):
        statistics.crossed_interval(np.full((3, 2), np.nan))
