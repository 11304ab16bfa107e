import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.pruning.events import change_scores, peaks


def _scene(lengths, seed=0, noise=0.01):
    rng = np.random.default_rng(seed)
    parts = [np.tile(rng.normal(size=8), (n, 1)) for n in lengths]
    features = np.concatenate(parts)
    return (features + noise * rng.normal(size=features.shape)).astype(np.float32)


def test_boundaries_between_scenes_are_the_peaks():
    scores = change_scores(_scene([12, 10, 15]), window=3)
    assert np.flatnonzero(peaks(scores, 2, 0.9)).tolist() == [12, 22]


def test_scores_lie_between_0_and_1_and_the_first_frame_scores_0():
    scores = change_scores(_scene([4, 6]), window=3)
    assert scores[0] == 0
    assert scores.min() >= 0
    assert scores.max() == 1


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_a_scene_without_change_has_no_event(count):
    features = np.full((count, 5), 1e3, np.float32)
    scores = change_scores(features, window=3)
    assert not scores.any()
    assert not peaks(scores, 2, 0.5).any()


@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_scale_and_offset_of_the_features_do_not_matter(scale, offset):
    features = _scene([7, 9]).astype(np.float64)
    other = change_scores(scale * features + offset, 3)
    np.testing.assert_allclose(other, change_scores(features, 3), atol=1e-6)


@given(
    st.lists(st.integers(0, 5), max_size=40).map(lambda x: np.asarray(x, float)),
    st.integers(0, 6),
    st.floats(0, 1),
)
def test_peaks_are_separated_positive_and_above_the_quantile(scores, suppression, quantile):
    found = np.flatnonzero(peaks(scores, suppression, quantile))
    assert (np.diff(found) > suppression).all()
    for frame in found:
        around = scores[max(0, frame - suppression) : frame + suppression + 1]
        assert scores[frame] == around.max() > 0
        assert scores[frame] >= np.quantile(scores, quantile)


def test_of_equal_neighbours_the_first_is_the_peak():
    assert peaks(np.array([0.0, 1, 1, 0, 1]), 2, 0.5).tolist() == [False, True, False, False, False]
