import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dualvla.evaluation import statistics

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_statsmodels_and_scipy(pair, confidence):
    k, n = pair
    found = statistics.wilson(k, n, confidence)
    expected = proportion_confint(k, n, 1 - confidence, method="wilson")
    assert found == pytest.approx(expected, abs=1e-9)
    interval = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert found == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_without_trials_nothing_is_known():
    assert statistics.wilson(0, 0) == (0.0, 1.0)
    assert statistics.rate(0, 0)["rate"] is None


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="trials"):
        statistics.wilson(k, n)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(one, other):
    expected = mcnemar([[7, one], [other, 5]], exact=True).pvalue if one + other else 1.0
    assert statistics.mcnemar(one, other) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(values):
    expected = multipletests(values, method="holm")[1]
    assert statistics.holm(values) == pytest.approx(list(expected), abs=1e-12)


def test_holm_of_nothing_is_nothing():
    assert statistics.holm([]) == []


pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


@given(pairs)
def test_a_paired_difference_lies_in_its_interval_and_turns_with_the_models(rows):
    first, second = np.array(rows, bool).T
    difference, low, high = statistics.paired_difference(first, second)
    assert -1 <= low <= difference <= high <= 1
    assert statistics.paired_difference(second, first) == pytest.approx((-difference, -high, -low))


def test_a_paired_difference_as_published():
    # Bonett and Price: one added to each discordant cell, two to the pairs.
    first = np.repeat([True, True, False, False], [20, 9, 3, 8])
    second = np.repeat([True, False, True, False], [20, 9, 3, 8])
    one, other, n = 10 / 42, 4 / 42, 42
    half = 1.959964 * np.sqrt((one + other - (one - other) ** 2) / n)
    expected = (6 / 40, one - other - half, one - other + half)
    assert statistics.paired_difference(first, second) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("only_first", "only_second"), [(0.1, 0.1), (0.3, 0.1), (0.05, 0.25)])
def test_the_paired_interval_covers_the_truth_95_times_in_100(only_first, only_second):
    n, covered = 24, 0.0
    for one in range(n + 1):
        for other in range(n + 1 - one):
            cells = [one, other, n - one - other]
            chances = [only_first, only_second, 1 - only_first - only_second]
            first = np.repeat([True, False, False], cells)
            second = np.repeat([False, True, False], cells)
            _, low, high = statistics.paired_difference(first, second)
            if low <= only_first - only_second <= high:
                covered += stats.multinomial.pmf(cells, n, chances)
    assert covered >= 0.94


def test_pairs_must_match():
    with pytest.raises(ValueError, match="pairs"):
        statistics.paired_difference(np.ones(3, bool), np.ones(2, bool))
