"""Trials of killing at random, on the toy graph: real servers, real DVC, every victim once."""

import chaos
import pytest


def test_moments_are_the_same_for_a_seed_and_every_victim_has_its_share():
    moments = chaos.draw(20, stages=12, longest=10.0, seed=0)
    assert moments == chaos.draw(20, stages=12, longest=10.0, seed=0)
    assert moments != chaos.draw(20, stages=12, longest=10.0, seed=1)
    assert {sum(one.victim == victim for one in moments) for victim in chaos.VICTIMS} == {5}
    assert {one.stages for one in moments} <= set(range(12))
    assert len({one.stages for one in moments}) > 5
    assert all(0 <= one.delay <= 10 for one in moments)


GREEN = {
    "exit_codes": [-9, 0],
    "killed": "python -m flows.retrain",
    "orphans": [],
    "lost": [],
    "stages": 2,
    "outs": {"data/a": "1", "models/b": "2"},
    "summary": "s",
    "verified": 9,
    "in_remote": True,
}


@pytest.mark.parametrize(
    ("planted", "differs"),
    [
        ({}, []),
        ({"outs": {"data/a": "1", "models/b": "3"}}, ["models/b"]),
        ({"outs": {"data/a": "1"}}, ["models/b"]),
        ({"summary": "t"}, ["summary"]),
        ({"verified": 8}, ["verified"]),
        ({"in_remote": False}, ["in_remote"]),
    ],
)
def test_any_difference_from_the_undisturbed_run_is_found(planted, differs):
    found = GREEN | planted
    assert chaos.different(GREEN, found) == differs
    assert chaos.holds(found | {"differs": differs}) == (not differs)


@pytest.mark.parametrize(
    "planted",
    [{"killed": None}, {"exit_codes": [-9, 1]}, {"orphans": ["python"]}, {"lost": ["retrain/1"]}],
)
def test_a_trial_that_missed_or_left_something_does_not_hold(planted):
    assert not chaos.holds(GREEN | {"differs": []} | planted)


def test_what_was_spent_is_no_difference():
    one = {"success": [{"rate": 0.5, "seconds_per_decision": 1.0}], "timings": [1]}
    other = {"success": [{"rate": 0.5, "seconds_per_decision": 2.0}], "timings": [2]}
    worse = {"success": [{"rate": 0.4, "seconds_per_decision": 1.0}], "timings": [1]}
    assert chaos.without_costs(one) == chaos.without_costs(other) != chaos.without_costs(worse)


def test_the_page_has_a_row_a_trial_and_hides_no_failure():
    moments = chaos.draw(2, stages=2, longest=1.0, seed=0)
    never = {"exit_codes": [1] * 6, "killed": "weed | mini", "orphans": [], "holds": False}
    found = [GREEN | {"differs": [], "holds": True}, never]
    text = chaos.page(moments, found, GREEN, "About.")
    assert "1 of 2 trials ended as the undisturbed run" in text
    rows = [line for line in text.splitlines() if line.startswith(("| 0 ", "| 1 "))]
    assert rows[0].endswith("| none | 0 | 0 | yes |")
    assert rows[1].endswith("| never green | 0 |  | no |")
    assert "`weed / mini`" in rows[1]
