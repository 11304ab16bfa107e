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


def test_a_difference_over_starts_and_seeds_leaves_crashes_out_and_turns_with_the_models():
    first, second = outcomes(40, 3, 2, 0.7), outcomes(40, 3, 3, 0.4)
    first[3, 1], second[5, 2] = np.nan, np.nan
    difference, low, high = statistics.crossed_difference(first, second)
    known = np.isfinite(first) & np.isfinite(second)
    assert difference == pytest.approx((first - second)[known].mean())
    assert low < difference < high
    turned = statistics.crossed_difference(second, first)
    assert turned == pytest.approx((-difference, -high, -low), abs=1e-6)


def test_a_difference_is_never_surer_than_that_of_independent_pairs():
    first = np.ones((4, 1))
    second = np.zeros((4, 1))  # a bootstrap of four equal pairs would be certain
    difference, low, high = statistics.crossed_difference(first, second)
    expected = statistics.paired_difference(first[:, 0] > 0.5, second[:, 0] > 0.5)
    assert (difference, low, high) == (1.0, expected[1], 1.0)


def test_starts_that_repeat_their_outcome_add_no_certainty_to_a_difference():
    first, second = outcomes(60, 1, 4, 0.7), outcomes(60, 1, 5, 0.4)
    once = statistics.crossed_difference(first, second)
    often = [np.repeat(table, 8, axis=1) for table in (first, second)]
    again = statistics.crossed_difference(*often)
    pairs = statistics.paired_difference(*(table.ravel() > 0.5 for table in often))
    assert again[0] == pytest.approx(once[0])
    assert again[2] - again[1] > 2 * (pairs[2] - pairs[1])


def test_outcomes_are_laid_out_by_start():
    table = statistics.by_start(["b", "a", "b"], np.array([1.0, 0.0, np.nan]))
    np.testing.assert_array_equal(table, [[1.0, np.nan], [0.0, np.nan]])
    assert statistics.by_start([], np.array([])).shape == (0, 0)


def test_other_starts_are_no_pairs():
    with pytest.raises(ValueError, match="pairs"):
        statistics.crossed_difference(np.ones((2, 2)), np.ones((2, 1)))
