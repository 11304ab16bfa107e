import numpy as np

from dualvla.simulation import camera


def test_the_optical_axis_meets_the_principal_point():
    lens = camera.Camera(np.array([[1.0, 0, 0.5], [0, 1.3, 0.4], [0, 0, 1]]), np.eye(4)[:3])
    np.testing.assert_allclose(lens.project(np.array([0, 0, 2.0])), [0.5, 0.4])
    np.testing.assert_allclose(lens.project(np.array([[1.0, 0, 2], [0, 1, 2]]))[:, 0], [1.0, 0.5])


def test_round_trip_through_json():
    lens = camera.Camera(np.eye(3), np.eye(4)[:3])
    again = camera.from_json(lens.to_json())
    np.testing.assert_array_equal(again.intrinsic, lens.intrinsic)
    np.testing.assert_array_equal(again.extrinsic, lens.extrinsic)
