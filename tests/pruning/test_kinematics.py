import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.pruning import kinematics
from dualvla.pruning.kinematics import action_events, action_scores

LOW, HIGH = 0.4, 0.6


def trajectory(positions, angles=None, opening=1.0):
    count = len(positions)
    angles = np.zeros((count, 3)) if angles is None else angles
    gripper = np.broadcast_to(opening, (count,))[:, None]
    return np.concatenate([positions, angles, gripper], axis=1).astype(np.float32)


def corners(seed=0, legs=4, length=8, size=0.01):
    """A path of straight legs; it turns at frames length, 2 length, ..."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(legs, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steps = np.repeat(directions * size, length, axis=0)
    return np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)]) + [0.3, 0.0, 0.1]


def test_a_turn_is_an_event_and_the_legs_are_not():
    events = action_events(trajectory(corners()), LOW, HIGH)
    assert np.flatnonzero(events).tolist() == [8, 16, 24]


@given(
    st.tuples(*[st.floats(-0.05, 0.05)] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    st.integers(0, 60),
)
def test_constant_velocity_has_no_event(velocity, turning, count):
    time = np.arange(count)[:, None]
    angles = kinematics.wrap(time * np.array([turning]) + 3.0)
    states = trajectory(0.2 + time * np.array([velocity]), angles)
    assert not action_events(states, LOW, HIGH).any()


@given(st.floats(-10, 10), st.integers(0, 5))
def test_where_angles_wrap_does_not_matter(offset, seed):
    angles = np.cumsum(np.random.default_rng(seed).normal(0, 0.1, (40, 3)), axis=0)
    base = np.concatenate([corners()[:33], np.zeros((7, 3))])
    plain = action_scores(trajectory(base, angles), LOW, HIGH)
    turned = action_scores(trajectory(base, kinematics.wrap(angles + offset)), LOW, HIGH)
    np.testing.assert_allclose(turned, plain, rtol=1e-3, atol=1e-3)


@given(st.floats(1.0, 20.0), st.floats(1.0, 3.0))
def test_scaling_metres_or_radians_does_not_matter(metres, radians):
    angles = np.cumsum(np.random.default_rng(1).normal(0, 0.05, (33, 3)), axis=0)
    plain = action_scores(trajectory(corners(), angles), LOW, HIGH)
    scaled = action_scores(trajectory(metres * corners(), radians * angles), LOW, HIGH)
    np.testing.assert_allclose(scaled, plain, rtol=2e-2, atol=2e-2)


@given(st.integers(2, 6))
def test_slower_by_a_whole_factor_has_the_same_turns(factor):
    slow = trajectory(corners(length=8 * factor, size=0.01 / factor))
    fast = trajectory(corners())
    expected = factor * np.flatnonzero(action_events(fast, LOW, HIGH))
    assert np.flatnonzero(action_events(slow, LOW, HIGH)).tolist() == expected.tolist()


@given(st.integers(0, 30))
def test_small_noise_does_not_move_the_events(seed):
    rng = np.random.default_rng(seed)
    states = trajectory(corners())
    noisy = states + rng.normal(0, 1e-5, states.shape).astype(np.float32)
    same = action_events(noisy, LOW, HIGH) == action_events(states, LOW, HIGH)
    assert same.all()


def test_a_gripper_change_marks_the_two_frames_between_which_it_happens():
    opening = np.where(np.arange(33) < 10, 1.0, 0.0)
    states = trajectory(0.2 + 0.01 * np.arange(33)[:, None] * np.ones(3), opening=opening)
    assert np.flatnonzero(action_events(states, LOW, HIGH)).tolist() == [9, 10]


def test_fingers_held_apart_by_a_thing_count_as_closed():
    opening = np.where((np.arange(30) < 10) | (np.arange(30) > 20), 1.0, 0.65)
    changes = kinematics.gripper_changes(opening, LOW, HIGH)
    assert np.flatnonzero(changes).tolist() == [9, 10, 20, 21]


def test_trembling_fingers_do_not_change():
    opening = 0.7 + 0.04 * np.sin(np.arange(30))
    assert not kinematics.gripper_changes(opening, LOW, HIGH).any()


def test_the_gripper_has_hysteresis():
    opening = np.array([1.0, 0.55, 0.45, 0.55, 0.3, 0.5, 0.59, 0.7])
    open_ = kinematics.is_open(opening, LOW, HIGH)
    assert open_.tolist() == [True, True, True, True, False, False, False, True]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_short_trajectories_have_no_event(count):
    assert not action_events(np.zeros((count, 7)), LOW, HIGH).any()


@given(st.integers(0, 50), st.integers(3, 40))
def test_events_are_the_scores_above_1(seed, count):
    states = np.random.default_rng(seed).normal(size=(count, 7))
    scores, events = action_scores(states, LOW, HIGH), action_events(states, LOW, HIGH)
    norms = np.linalg.norm(kinematics._scaled(states[:, :6].astype(float)), axis=1)
    literal = norms > norms[1:-1].mean()
    literal[[0, -1]] = False
    changed = kinematics.gripper_changes(states[:, 6], LOW, HIGH)
    assert (events == (literal | changed)).all()
    assert (events == (scores > 1)).all()
