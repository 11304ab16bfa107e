"""Where an episode went wrong, on a drawn pick and place that is bent in one way at a time."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.evaluation import failures
from dualvla.evaluation.outcomes import MODES

COLUMN = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}
FLAGS = [COLUMN[name] for name in ("grasped", "on_target", "success")]


def points(states, thing):
    return states[:, [COLUMN[f"{thing}.{axis}"] for axis in "xyz"]]


def put(states, steps, point):
    """The object lies at `point`, in nobody's hand, at the given steps."""
    states[steps, COLUMN["source.x"] : COLUMN["source.z"] + 1] = point
    states[np.ix_(np.arange(len(states))[steps], FLAGS)] = 0


@pytest.fixture
def drawn(clip):
    """States, actions, the first step with the object in hand and the first without it again."""
    states, actions = clip().environment.copy(), clip().actions.copy()
    held = np.flatnonzero(states[:, COLUMN["grasped"]])
    return states, actions, held[0], held[-1] + 1


def test_a_perfect_episode_is_a_success_in_every_mode(drawn):
    states, actions, *_ = drawn
    assert {failures.of(states, actions, mode) for mode in MODES} == {failures.SUCCESS}


def test_an_arm_that_stays_away_has_not_reached(drawn):
    states, actions, *_ = drawn
    put(states, slice(None), [0.2, -0.2, 0.02])
    assert failures.of(states, actions) == "not_reached"


def test_fingers_that_close_on_air_beside_the_object_have_not_grasped(drawn):
    states, actions, *_ = drawn
    put(states, slice(None), points(states, "source")[0] + [0.03, 0, 0])
    assert failures.of(states, actions) == "not_grasped"


def test_time_is_up_with_the_object_in_hand(drawn):
    states, actions, first, after = drawn
    cut = (first + after) // 2
    assert failures.of(states[: cut + 1], actions[:cut]) == "timeout"


def test_time_is_up_while_the_object_falls_onto_its_goal(drawn):
    states, actions, _, after = drawn
    states[:, COLUMN["source.z"]] += 0.05 * (np.arange(len(states)) < after)
    states[:, FLAGS[1:]] = 0
    assert failures.of(states[: after + 1], actions[:after]) == "timeout"


def test_an_object_that_slips_out_of_closed_fingers_is_dropped(drawn):
    states, actions, first, _ = drawn
    lost = first + 5
    put(states, slice(lost, None), points(states, "source")[0] + [0, -0.03, 0])
    assert actions[lost - 1, 6] < 0
    assert failures.of(states, actions) == "dropped"


def test_an_object_let_go_in_the_air_is_dropped_and_one_put_down_is_misplaced(drawn):
    states, actions, first, _ = drawn
    lost = first + 5
    put(states, slice(lost, None), points(states, "source")[0] + [0, -0.03, 0])
    actions[lost - 1, 6] = 1
    assert points(states, "source")[lost - 1, 2] > points(states, "source")[0, 2] + failures.AIR
    assert failures.of(states, actions) == "dropped"
    states[:lost, COLUMN["source.z"]] = states[0, COLUMN["source.z"]]
    assert failures.of(states, actions) == "misplaced"


def test_an_object_beside_the_middle_of_its_goal_is_misplaced(drawn):
    states, actions, _, after = drawn
    put(states, slice(after, None), points(states, "target")[0] + [0.05, 0, 0])
    assert failures.of(states, actions) == "misplaced"


def test_what_held_once_and_was_undone_is_misplaced(drawn):
    states, actions, *_ = drawn
    put(states, slice(-1, None), points(states, "source")[0])
    assert failures.of(states, actions) == "misplaced"
    assert failures.of(states, actions, "any_step") == failures.SUCCESS


def test_a_second_grasp_forgives_the_first(drawn):
    states, actions, first, _ = drawn
    states[first + 3, FLAGS[0]] = 0
    states[-1, FLAGS] = [1, 0, 0]
    assert failures.of(states, actions) == "timeout"


def test_an_engine_that_tells_no_positions_leaves_it_open(drawn):
    states, actions, *_ = drawn
    states[:, COLUMN["source.x"]] = np.nan
    assert failures.of(states, actions) == failures.SUCCESS
    states[:, COLUMN["success"]] = 0
    assert failures.of(states, actions) == "unknown"


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_every_episode_has_exactly_one_end(seed, steps):
    rng = np.random.default_rng(seed)
    states = rng.normal(0, 0.1, (steps + 1, len(ENVIRONMENT_STATE_NAMES)))
    states[:, FLAGS] = rng.random((steps + 1, 3)) < 0.3
    actions = rng.normal(0, 1, (steps, 7))
    for mode in MODES:
        ended = failures.of(states, actions, mode)
        assert ended in (failures.SUCCESS, *failures.FAILURES)


def test_states_and_actions_must_fit(drawn):
    states, actions, *_ = drawn
    with pytest.raises(ValueError, match="states"):
        failures.of(states, actions[1:])


def test_a_table_counts_every_episode_once():
    rows = [("official", "carrot", "ok", "dropped"), ("official", "spoon", "ok", "success")]
    rows += [("official", "carrot", "error", None), ("shifted", "carrot", "ok", "timeout")]
    episodes = pd.DataFrame(rows, columns=["starts", "task", "status", "failure"])
    table = failures.table(episodes)
    assert [(row["starts"], row["task"]) for row in table] == [
        ("official", "all"),
        ("official", "carrot"),
        ("official", "spoon"),
        ("shifted", "all"),
        ("shifted", "carrot"),
    ]
    for row in table:
        assert row["n"] == sum(row[name] for name in (failures.SUCCESS, *failures.FAILURES))
    assert table[0] | {"n": 2, "errors": 1, "dropped": 1, "success": 1} == table[0]
