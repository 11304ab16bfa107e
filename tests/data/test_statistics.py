import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dualvla.data import statistics


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        elements=st.floats(-9, 9, width=32),
    )
)
def test_vectors_are_summarised_exactly(values):
    stats = statistics.summarise(values)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(stats["std"], wide.std(0), atol=1e-9)
    np.testing.assert_allclose(stats["q10"], np.quantile(wide, 0.1, axis=0))
    assert stats["count"] == [len(values)]
    order = np.array([stats[k] for k in ("min", "q01", "q10", "q50", "q90", "q99", "max")])
    assert (np.diff(order, axis=0) >= -1e-9).all()


def test_pictures_are_summarised_as_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    encoded = []
    for image in pixels:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        encoded.append(stream.getvalue())
    counts = statistics.histogram(encoded[:2]) + statistics.histogram(encoded[2:])
    stats = statistics.summarise_pictures(counts, 4)
    flat = pixels.reshape(-1, 3) / 255
    for name, value in (
        ("min", flat.min(0)),
        ("max", flat.max(0)),
        ("mean", flat.mean(0)),
        ("std", flat.std(0)),
        ("q50", np.quantile(flat, 0.5, axis=0, method="inverted_cdf")),
    ):
        assert np.ravel(stats[name]) == pytest.approx(value)
    assert stats["count"] == [4]


@given(st.integers(1, 500))
def test_sample_is_spread_over_the_episode(length):
    frames = statistics.sample(length)
    assert frames == sorted(set(frames))
    assert (frames[0], frames[-1]) == (0, length - 1)
    assert len(frames) <= statistics.FRAMES_SAMPLED
