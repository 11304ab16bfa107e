import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file, save_file

from dualvla import files
from dualvla.errors import UserError
from dualvla.pruning import boundaries, detector
from dualvla.pruning.events import change_scores, peaks

SIZE = 64
HALF = SIZE // 2


def episode(seed):
    """Small changes that are boundaries, among greater ones, of other numbers, that are none."""
    rng = np.random.default_rng(seed)
    phases = np.repeat(np.arange(4), rng.integers(5, 9, 4))
    features = 0.1 * rng.normal(size=(len(phases), SIZE))
    features[:, :HALF] += 0.5 * np.random.default_rng(0).normal(size=(4, HALF))[phases]
    for _ in range(3):
        features[rng.integers(1, len(phases)) :, HALF:] += rng.normal(size=HALF)
    return features.astype(np.float32), boundaries.from_phases(phases)


@functools.cache
def trained(seed=0, steps=300):
    parts = [episode(number) for number in range(8)]
    return detector.train(*zip(*parts, strict=True), window=3, steps=steps, seed=seed)


def test_it_learns_what_an_event_is_where_a_change_point_does_not():
    parts = [episode(number) for number in range(100, 120)]
    true = [labels for _, labels in parts]
    found = [
        detector.boundaries(detector.boundary_scores(trained(), part), 1, 0.5) for part, _ in parts
    ]
    jumps = [peaks(change_scores(part, 3), 2, 0.6) for part, _ in parts]
    learned, change_point = (boundaries.figures(true, masks, 1)["f1"] for masks in (found, jumps))
    assert learned > 0.8
    assert learned > change_point + 0.1


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(tmp_path):
    part = episode(0)
    for name in ("a", "b"):
        torch.rand(3)
        model = detector.train([part[0]], [part[1]], window=2, steps=5, seed=7)
        detector.save(model, tmp_path / name)
    assert files.sha256(tmp_path / "a") == files.sha256(tmp_path / "b")
    other = detector.train([part[0]], [part[1]], window=2, steps=5, seed=8)
    assert not torch.equal(other.out.weight, model.out.weight)


def test_training_leaves_the_random_numbers_of_others_alone():
    part = episode(0)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    detector.train([part[0]], [part[1]], window=1, steps=1, seed=0)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("window", [1, 2, 5])
def test_any_window_and_number_of_steps_gives_finite_scores(window, steps):
    part = episode(0)
    model = detector.train([part[0]], [part[1]], window=window, steps=steps, seed=0)
    assert np.isfinite(detector.boundary_scores(model, part[0])).all()


@given(arrays.arrays(np.float32, SIZE, elements=st.floats(-1e3, 1e3, width=32)), st.integers(0, 20))
def test_constant_features_give_no_boundary(feature, count):
    scores = detector.boundary_scores(trained(), np.tile(feature, (count, 1)))
    assert len(scores) == count
    assert not scores.any()
    assert not detector.boundaries(scores, 0, 0.0).any()


def test_training_on_constant_features_is_no_division_by_zero():
    model = detector.train([np.ones((9, SIZE))], [np.zeros(9, bool)], window=2, steps=3, seed=0)
    assert np.isfinite(detector.boundary_scores(model, episode(0)[0])).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_an_episode_shorter_than_the_window_is_scored(count):
    scores = detector.boundary_scores(trained(), episode(0)[0][:count])
    assert len(scores) == count
    assert np.isfinite(scores).all()
    assert not scores[:1].any()


@settings(deadline=None)
@given(st.floats(-100, 100))
def test_an_offset_of_the_features_does_not_matter(offset):
    features = episode(1)[0].astype(np.float64)
    other = detector.boundary_scores(trained(), features + offset)
    np.testing.assert_allclose(other, detector.boundary_scores(trained(), features), atol=1e-3)


@given(
    arrays.arrays(float, st.integers(0, 40), elements=st.floats(0, 1)),
    st.integers(0, 6),
    st.floats(0, 1),
)
def test_no_two_boundaries_are_closer_than_the_suppression(scores, suppression, threshold):
    found = np.flatnonzero(detector.boundaries(scores, suppression, threshold))
    assert (np.diff(found) > suppression).all()
    assert (scores[found] >= threshold).all()


def test_features_of_another_size_are_refused():
    with pytest.raises(UserError, match="same base VLM"):
        detector.boundary_scores(trained(), np.ones((4, SIZE + 1)))


def test_a_saved_detector_scores_as_before(tmp_path):
    detector.save(trained(), tmp_path / "detector")
    features = episode(2)[0]
    again = detector.boundary_scores(detector.load(tmp_path / "detector"), features)
    assert (again == detector.boundary_scores(trained(), features)).all()


def test_loading_is_strict(tmp_path):
    folder = tmp_path / "detector"
    detector.save(trained(), folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    for broken in ({**weights, "more": torch.ones(1)}, {"mean": weights["mean"]}):
        save_file(broken, path)
        with pytest.raises(UserError, match=r"model\.safetensors"):
            detector.load(folder)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="damaged"):
        detector.load(folder)
    path.unlink()
    with pytest.raises(UserError, match="no weights"):
        detector.load(folder)
    files.write_json(folder / "config.json", {"model_type": "other"})
    with pytest.raises(UserError, match="not a boundary detector"):
        detector.load(folder)
