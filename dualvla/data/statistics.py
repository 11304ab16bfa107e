"""Statistics of columns and pictures, as meta/stats.json and the episode rows hold them.

Vectors are summarised exactly: quantiles come from the values, not from merged histograms, because
q01 and q99 become the action normalisation of every model. Pictures are summarised from a fixed
subsample through histograms of their 256 levels, which merge exactly over episodes.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
FRAMES_SAMPLED = 8  # pictures an episode; neighbouring frames are nearly equal

Stats = dict[str, Any]
Histogram = NDArray[np.int64]


def summarise(values: NDArray[Any]) -> Stats:
    """Statistics of a column over its frames.

    Args:
        values: (N, K) or (N,), finite, N > 0.

    Returns:
        min, max, mean, std, q01 ... q99 as lists of K float64, count as a list of one int.
    """
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    stats = {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": table.mean(axis=0).tolist(),
        "std": table.std(axis=0).tolist(),
        "count": [len(table)],
    }
    levels = np.quantile(table, list(QUANTILES.values()), axis=0)
    return stats | {name: level.tolist() for name, level in zip(QUANTILES, levels, strict=True)}


def sample(length: int) -> list[int]:
    """Frames of an episode whose pictures are counted: evenly spread, first and last included."""
    count = min(length, FRAMES_SAMPLED)
    return sorted({round(float(i)) for i in np.linspace(0, length - 1, count)})


def histogram(pictures: Sequence[bytes]) -> Histogram:
    """Levels counted over pictures: (3, 256) int64, one row a colour channel."""
    from PIL import Image

    counts = np.zeros((3, 256), dtype=np.int64)
    for encoded in pictures:
        pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        for channel in range(3):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    return counts


def summarise_pictures(counts: Histogram, pictures: int) -> Stats:
    """Statistics of pictures from their `histogram`: shape (3, 1, 1), in [0, 1]."""
    levels = np.arange(256) / 255.0
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    variance = counts @ levels**2 / total - mean**2
    below = np.cumsum(counts, axis=1) / total[:, None]
    stats = {
        "min": levels[(counts > 0).argmax(axis=1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(variance, 0.0)),
    }
    for name, share in QUANTILES.items():
        stats[name] = levels[(below >= share - 1e-12).argmax(axis=1)]
    shaped: Stats = {name: value.reshape(3, 1, 1).tolist() for name, value in stats.items()}
    return shaped | {"count": [pictures]}
