import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.pruning import boundaries

frames = st.sets(st.integers(0, 30), max_size=8).map(lambda s: np.array(sorted(s), np.int64))
tolerances = st.integers(0, 5)


def mask(text):
    return np.array([letter == "|" for letter in text])


@given(frames, frames, tolerances)
def test_matching_is_one_to_one_and_within_the_tolerance(true, found, tolerance):
    pairs = boundaries.matches(true, found, tolerance)
    assert all(abs(a - b) <= tolerance for a, b in pairs)
    for side, all_of_it in zip(zip(*pairs, strict=True), (true, found), strict=False):
        assert len(set(side)) == len(side)
        assert set(side) <= set(all_of_it.tolist())


@given(frames, frames, tolerances)
def test_matching_is_symmetric(true, found, tolerance):
    there = boundaries.matches(true, found, tolerance)
    assert [(b, a) for b, a in boundaries.matches(found, true, tolerance)] == [
        (b, a) for a, b in there
    ]


@given(
    st.sets(st.integers(0, 12), max_size=4).map(sorted),
    st.sets(st.integers(0, 12), max_size=4).map(sorted),
    st.integers(0, 3),
)
def test_no_matching_has_more_pairs(true, found, tolerance):
    few, many = sorted((true, found), key=len)
    best = max(
        sum(abs(a - b) <= tolerance for a, b in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )
    assert len(boundaries.matches(np.array(true), np.array(found), tolerance)) == best


@given(arrays.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 7)))
def test_a_boundary_is_where_the_phase_changes_and_never_the_first_frame(phases):
    found = boundaries.from_phases(phases)
    assert not found[:1].any()
    assert found.sum() == (np.diff(phases) != 0).sum()


def test_an_episode_without_phases_has_no_labels():
    environment = np.zeros((5, len(ENVIRONMENT_STATE_NAMES)), np.float32)
    assert boundaries.from_environment(environment).tolist() == [False] * 5
    environment[3, boundaries.PHASE] = -1
    assert boundaries.from_environment(environment) is None


@given(st.data(), st.integers(1, 60))
def test_a_fixed_stride_has_as_many_boundaries_as_asked_for(data, length):
    count = data.draw(st.integers(0, length - 1))
    found = boundaries.evenly(length, count)
    assert found.sum() == count
    assert not found[0]


def test_figures_count_what_was_matched_over_all_episodes():
    true = [mask("..|...|."), mask("....|")]
    found = [mask("...|..|."), mask("|....")]
    exact, near = (boundaries.figures(true, found, tolerance) for tolerance in (0, 1))
    assert (exact["matched"], near["matched"]) == (1, 2)
    assert (near["found"], near["true"]) == (3, 3)
    assert near["precision"] == near["recall"] == pytest.approx(2 / 3)
    assert near["f1"] == pytest.approx(2 / 3)


def test_the_interval_of_f1_is_of_whole_episodes():
    good, bad = (mask("..|."), mask("..|.")), (mask("..|."), mask("|..."))
    mixed = boundaries.figures(*zip(*([good, bad] * 20), strict=True), 0)
    assert 0.3 < mixed["low"] < mixed["f1"] == 0.5 < mixed["high"] < 0.7
    alike = boundaries.figures(*zip(*([good] * 20), strict=True), 0)
    assert alike["low"] == alike["high"] == 1
    many = boundaries.figures(*zip(*([good, bad] * 200), strict=True), 0)
    assert many["high"] - many["low"] < (mixed["high"] - mixed["low"]) / 2


def test_figures_of_nothing_are_none_and_not_an_error():
    nothing = boundaries.figures([], [], 1)
    assert nothing["precision"] is nothing["recall"] is nothing["f1"] is None
    assert (nothing["low"], nothing["high"]) == (0, 1)
    silent = boundaries.figures([mask("..|.")], [mask("....")], 1)
    assert (silent["precision"], silent["recall"], silent["f1"]) == (None, 0.0, 0.0)


@given(st.integers(0, 20), st.integers(1, 30), st.integers(0, 3))
def test_training_and_held_out_episodes_are_all_and_share_none(known, count, seed):
    masks = {2 * place: mask("..|.") for place in range(known)}
    tasks = ["carrot", "stack", "stack", "spoon"] * 10
    labels = boundaries.split(masks, tasks, count, seed)
    assert sorted(labels.training + labels.heldout) == sorted(masks)
    assert not set(labels.training) & set(labels.heldout)
    assert len(labels.training) == min(count, max(1, known // 2), known)
    assert labels == boundaries.split(masks, tasks, count, seed)


def test_training_episodes_are_spread_over_the_tasks():
    tasks = ["carrot"] * 30 + ["stack"] * 10
    labels = boundaries.split({place: mask("..|.") for place in range(40)}, tasks, 8, seed=0)
    assert [tasks[place] for place in labels.training].count("stack") == 4


def test_a_table_scores_held_out_episodes_alone_and_always_has_the_fixed_stride():
    masks = {0: mask("..|..|"), 1: mask("..|..."), 3: mask(".|....")}
    labels = boundaries.Labels(masks, training=(0,), heldout=(1, 3))
    found = [mask("......"), mask("..|..."), mask("||||||"), mask(".|....")]
    table = boundaries.table(labels, {"learned": found}, tolerance=0)
    assert set(table["methods"]) == {"fixed_stride", "learned"}
    assert table["methods"]["learned"]["f1"] == 1
    assert table["methods"]["fixed_stride"]["found"] == table["heldout"]["boundaries"] == 2
    assert (table["heldout"]["episodes"], table["heldout"]["frames"]) == (2, 12)
    assert "learned 1.00" in boundaries.describe(table)


def test_a_table_without_held_out_episodes_says_so():
    labels = boundaries.Labels({0: mask("..|.")}, training=(0,), heldout=())
    table = boundaries.table(labels, {"change_point": [mask("....")]}, tolerance=1)
    assert table["heldout"]["episodes"] == 0
    assert table["methods"]["change_point"]["f1"] is None
    assert "change_point -" in boundaries.describe(table)
