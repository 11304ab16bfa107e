import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dualvla import poses

angle = st.floats(-1.4, 1.4)
pose = hnp.arrays(np.float64, (6,), elements=angle)
chunk = hnp.arrays(np.float64, (5, 6), elements=st.floats(-0.2, 0.2))
quaternion = hnp.arrays(np.float64, (4,), elements=st.floats(-1, 1)).filter(
    lambda q: np.linalg.norm(q) > 0.1
)


def rotation(p):
    return poses.matrix_from_euler(p[..., 3:6])


@given(pose, pose)
def test_delta_inverts_compose(controller, target):
    reached = poses.compose(controller, poses.delta(controller, target))
    np.testing.assert_allclose(reached[:3], target[:3], atol=1e-9)
    np.testing.assert_allclose(rotation(reached), rotation(target), atol=1e-9)


@given(pose, pose)
def test_action_turns_in_base_axes(controller, action):
    expected = rotation(action) @ rotation(controller)
    np.testing.assert_allclose(rotation(poses.compose(controller, action)), expected, atol=1e-9)


@given(pose, chunk)
def test_deltas_inverts_accumulate(controller, actions):
    targets = poses.accumulate(controller, actions)
    assert targets.shape == (5, 6)
    np.testing.assert_allclose(
        rotation(poses.deltas(controller, targets)), rotation(actions), atol=1e-9
    )


@given(hnp.arrays(np.float64, (3,), elements=angle))
def test_euler_round_trip(angles):
    back = poses.euler_from_matrix(poses.matrix_from_euler(angles))
    np.testing.assert_allclose(back, angles, atol=1e-9)


@given(quaternion, quaternion)
def test_quaternion_product_is_matrix_product(left, right):
    product = poses.matrix_from_quaternion(poses.multiply(left, right))
    expected = poses.matrix_from_quaternion(left) @ poses.matrix_from_quaternion(right)
    np.testing.assert_allclose(product, expected, atol=1e-9)


def test_vectorised_over_leading_axes():
    rng = np.random.default_rng(0)
    controller, action = rng.normal(0, 0.3, (2, 3, 6)), rng.normal(0, 0.1, (2, 3, 7))
    together = poses.compose(controller, action)
    np.testing.assert_array_equal(together[1, 2], poses.compose(controller[1, 2], action[1, 2]))


def test_precision_of_the_inputs_is_kept():
    zeros = np.zeros(6, np.float32)
    assert poses.compose(zeros, np.zeros(7, np.float32)).dtype == np.float32
    assert poses.delta(zeros, zeros).dtype == np.float32


def test_down_is_all_zero_and_points_down():
    # The link's x axis turned onto -z: a quarter turn about y.
    pose = poses.from_link(np.zeros(3), np.array([np.sqrt(0.5), 0, np.sqrt(0.5), 0]))
    np.testing.assert_allclose(pose, 0, atol=1e-12)
    np.testing.assert_allclose(poses.approach(pose), [0, 0, -1], atol=1e-12)


@given(st.floats(-50, 50), st.floats(-3, 3))
def test_wrap_lands_in_its_branch(value, low):
    wrapped = float(poses.wrap(value, np.pi, low))
    assert low - 1e-9 <= wrapped <= low + np.pi + 1e-9
    assert abs(np.sin(wrapped - value)) < 1e-9


def test_base_frame_undoes_the_base_pose():
    base = np.array([0.1, 0.2, 0.3, *poses.yaw_quaternion(np.pi)])
    pose = poses.to_base(np.array([0.0, 0.2, 0.4]), np.array([1.0, 0, 0, 0]), base)
    np.testing.assert_allclose(pose[:3], [0.1, 0, 0.1], atol=1e-12)
