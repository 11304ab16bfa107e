import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_policy import statistics

from dualvla import poses
from dualvla.errors import UserError
from dualvla.models import actions

steps = arrays(np.float64, (6, 6), elements=st.floats(-0.02, 0.02))


def episode(moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Controller poses (T, 6) and actions (T, 7) of an episode."""
    here, controller = np.array([0.3, 0.0, 0.2, 0.0, 0.0, 0.1]), []
    for move in moves:
        controller.append(here)
        here = np.asarray(poses.compose(here, np.append(move, 1.0)))
    gripper = np.ones((len(moves), 1))
    return np.array(controller), np.concatenate([moves, gripper], axis=-1)


@given(steps)
def test_deltas_of_targets_are_the_actions_again(moves):
    controller, acted = episode(moves)
    wanted = actions.targets(controller, acted)
    again = actions.deltas(controller[0], wanted, statistics())
    np.testing.assert_allclose(again, acted, atol=1e-5)


@given(arrays(np.float32, (5, 7), elements=st.floats(-2, 2, width=32)))
def test_normalise_is_undone_and_leaves_the_gripper(values):
    scaled = actions.normalise(values, statistics())
    np.testing.assert_array_equal(scaled[:, 6], values[:, 6])
    np.testing.assert_allclose(actions.unnormalise(scaled, statistics()), values, atol=1e-4)


def test_chunks_repeat_the_last_row_past_the_end():
    values = np.arange(3, dtype=np.float32)[:, None]
    assert actions.chunks(values, 3)[..., 0].tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2]]


def test_no_step_is_larger_than_ever_seen():
    far = np.array([[0.9, 0.0, 0.2, 0.0, 0.0, 2.0, -1.0]], np.float32)
    move = actions.deltas(np.array([0.1, 0, 0.2, 0, 0, 0]), far, statistics())[0]
    assert np.linalg.norm(move[:3]) <= 0.06 + 1e-6
    assert np.linalg.norm(move[3:6]) <= 0.6 + 1e-6
    assert move[6] == -1.0


def test_a_dimension_that_never_moves_keeps_a_floor():
    still = [np.tile(np.array([[0.3, 0, 0.1, 0, 0, 0, 1]], np.float32), (5, 1))]
    fitted = actions.fit(still, [np.zeros((5, 7), np.float32)])
    assert np.all(np.subtract(fitted.high, fitted.low) >= np.array(actions.FLOOR) - 1e-9)


def test_a_prediction_that_is_not_finite_is_refused():
    with pytest.raises(UserError, match="not finite"):
        actions.deltas(np.zeros(6), np.full((1, 7), np.nan, np.float32), statistics())
