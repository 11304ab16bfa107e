import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import binom_test_reject_interval, proportion_confint

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


GRID = (np.arange(400) + 0.5) / 400  # true rates


@pytest.mark.parametrize("n", [1, 4, 24, 96, 288])
def test_wilson_covers_as_often_as_it_says_on_average(n):
    counts = np.arange(n + 1)
    low, high = np.array([statistics.wilson(int(k), n) for k in counts]).T
    true = GRID[:, None]
    chances = stats.binom.pmf(counts, n, true) * ((low <= true) & (true <= high))
    assert chances.sum(1).mean() == pytest.approx(0.95, abs=0.01)


def coverage(n):
    """Coverage of the paired interval for each of many pairs of models; exact."""
    one, other = np.array([(a, b) for a in range(n + 1) for b in range(n + 1 - a)]).T
    rest = n - one - other
    found = []
    for cells in zip(one, other, rest, strict=True):
        first, second = (
            np.repeat([True, False, False], cells),
            np.repeat([False, True, False], cells),
        )
        found.append(statistics.paired_difference(first, second)[1:])
    low, high = np.array(found).T + [[-1e-12], [1e-12]]
    ways = special.gammaln([n + 1, 1, 1]).sum() - special.gammaln(
        [one + 1, other + 1, rest + 1]
    ).sum(0)
    shares = np.arange(0.025, 0.5, 0.05)
    for a, b in ((a, b) for a in shares for b in shares if a + b <= 0.5):
        logs = special.xlogy(one, a) + special.xlogy(other, b) + special.xlogy(rest, 1 - a - b)
        yield np.exp(ways + logs)[(low <= a - b) & (a - b <= high)].sum()


def test_the_paired_interval_covers_within_a_point_from_48_pairs_on():
    assert np.mean(list(coverage(48))) == pytest.approx(0.95, abs=0.01)
    assert np.mean(list(coverage(72))) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("n", [6, 12, 24])
def test_the_paired_interval_is_conservative_at_few_pairs(n):
    found = list(coverage(n))
    assert np.mean(found) > 0.96
    assert min(found) > 0.93


@given(st.integers(1, 12), st.floats(0.01, 1), st.floats(-1, 1), st.sampled_from([0.2, 0.05, 0.01]))
@settings(deadline=None, max_examples=40)
def test_the_power_is_the_chance_of_all_outcomes_that_are_significant(n, discordance, way, alpha):
    difference = discordance * way
    one, other = (discordance + difference) / 2, (discordance - difference) / 2
    expected = 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            if statistics.mcnemar(a, b) < alpha:
                shares = [one, other, 1 - discordance]
                expected += stats.multinomial.pmf([a, b, n - a - b], n, shares)
    found = statistics.mcnemar_power(n, discordance, difference, alpha)
    assert found == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 60), st.sampled_from([0.05, 0.01, 0.05 / 7]))
@settings(deadline=None, max_examples=25)
def test_the_significant_counts_are_those_of_statsmodels(discordant, alpha):
    most, least = binom_test_reject_interval(0.5, discordant, alpha)
    shown = [k for k in range(discordant + 1) if statistics.mcnemar(k, discordant - k) < alpha]
    assert shown == [k for k in range(discordant + 1) if k <= most or k >= least]


def test_few_pairs_raise_false_alarms_far_less_often_than_said():
    for n, discordance in itertools.product((6, 24, 96), (0.05, 0.2, 0.6)):
        assert statistics.mcnemar_power(n, discordance, 0.0, 0.05) <= 0.05


@pytest.mark.parametrize(("pairs", "discordance"), [(200, 0.1), (500, 0.2), (2000, 0.4)])
def test_what_is_detectable_agrees_with_the_formula_for_many_pairs(pairs, discordance):
    # Miettinen (1968), normal approximation: the exact test asks for a little more.
    found = statistics.detectable(pairs, discordance)
    z, power = stats.norm.ppf([0.975, 0.8])
    root, rest = np.sqrt(discordance), np.sqrt(discordance - found**2)
    assert 1.0 < pairs / ((z * root + power * rest) / found) ** 2 < 1.12
    assert statistics.mcnemar_power(pairs, discordance, found, 0.05) == pytest.approx(0.8, abs=1e-4)


@given(st.integers(6, 200), st.floats(0, 1))
@settings(deadline=None, max_examples=12)
def test_more_pairs_or_a_milder_level_detect_smaller_differences(pairs, discordance):
    found = statistics.detectable(pairs, discordance)
    assert 0 < found <= 1
    assert statistics.detectable(2 * pairs, discordance) <= found + 1e-5
    stricter = statistics.detectable(pairs, discordance, alpha=0.01)
    assert stricter is None or stricter >= found - 1e-5


def test_five_pairs_can_show_nothing():
    assert statistics.detectable(5, 0.5) is None
    assert statistics.detectable(0, 0.0) is None
    assert statistics.detectable(6, 0.0) == pytest.approx(0.8 ** (1 / 6), abs=1e-5)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_the_interval_of_a_mean_is_students_and_holds_it(values):
    found = np.array(values)
    low, high = statistics.mean_interval(found)
    assert 0 <= low <= found.mean() + 1e-12
    assert found.mean() - 1e-12 <= high <= 1
    if np.ptp(found) > 1e-6:
        expected = stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
        assert (low, high) == pytest.approx(np.clip(expected, 0, 1), abs=1e-9)


@pytest.mark.parametrize(("count", "half"), [(2, 0.66), (5, 0.43), (96, 0.04)])
def test_few_equal_values_are_no_certainty(count, half):
    assert statistics.mean_interval(np.zeros(count), least=-1.0)[1] == pytest.approx(half, abs=0.01)
    assert statistics.mean_interval(np.zeros(1), least=-1.0) == [-1.0, 1.0]
