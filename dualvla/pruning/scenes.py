"""The scene layer of every episode, by one of two ways that give the same kind of result.

Which of them pruning uses is a parameter; both end in a score and in events a frame, so that
verdicts, controls and pictures know nothing of the difference. The change point is computed even
where it is not used: it is cheap, and the learned layer has to be measured beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualvla.config import Prune
from dualvla.pruning import detector
from dualvla.pruning.boundaries import Labels
from dualvla.pruning.detector import Detector
from dualvla.pruning.events import change_scores, peaks

Features = NDArray[np.floating]


@dataclass(frozen=True)
class Layer:
    """Layer 1 of one episode of T frames."""

    scores: NDArray[np.float64]  # (T,) in [0, 1]
    events: NDArray[np.bool_]  # (T,)
    threshold: float  # of the scores


def change_points(features: Features, params: Prune) -> Layer:
    """Scene layer of one episode, (T, D) image features, without any training."""
    scores = change_scores(features, params.scene_window)
    events = peaks(scores, params.scene_suppression, params.scene_quantile)
    # As stored: verdicts hold float32.
    stored = scores.astype(np.float32)
    threshold = float(np.quantile(stored, params.scene_quantile)) if len(stored) else 0.0
    return Layer(scores, events, threshold)


def learned(model: Detector, features: Features, params: Prune) -> Layer:
    """Scene layer of one episode, (T, D) image features, by a trained detector."""
    scores = detector.boundary_scores(model, features)
    limit = params.detector_threshold
    return Layer(scores, detector.boundaries(scores, params.detector_suppression, limit), limit)


def train(episodes: Sequence[Features], labels: Labels, params: Prune, seed: int) -> Detector:
    """Train the detector on the training episodes of `labels`; `episodes` are all, in order."""
    return detector.train(
        [episodes[index] for index in labels.training],
        [labels.boundaries[index] for index in labels.training],
        window=params.detector_window,
        steps=params.detector_steps,
        seed=seed,
    )
