"""Layer 1 of the pruning: frames at which the scene changes.

The paper retrains a video event-boundary detector on hand-labelled trajectories. None of that is
public, so the score here is a two-sample change point: how far the mean image feature of the frames
after a boundary lies from the mean of those before it. Nothing is trained and nothing has to be
labelled; the price is that any change of the picture counts, also one that needs no reasoning,
which is what the second layer is for (`detector` is the trained alternative). Scores are normalised
per episode, because the scale of a change depends on object size and camera.
"""

import numpy as np
from numpy.typing import NDArray

# Image features are float32: a change below this share of their norm is rounding, not an event.
ROUNDING = 1e-5


def change_scores(features: NDArray[np.floating], window: int) -> NDArray[np.float64]:
    """Change-point score of every frame of one episode, its greatest scaled to 1.

    Frame i is compared as the first of "after": `window` frames from i on against `window` frames
    before it. Windows are cut at the ends of the episode; the distance of two means over n and m
    frames is weighted by sqrt(n m / (n + m)), so that a short window's noise makes no peak.

    Args:
        features: (N, D) one image feature a frame, in order.
        window: frames on each side, at least 1.

    Returns:
        (N,) in [0, 1]; 0 at the first frame, all 0 where nothing changes.
    """
    frames = np.asarray(features, np.float64)
    count = len(frames)
    scores = np.zeros(count)
    if count < 2:
        return scores
    # Centred first: differences of running sums of large numbers would round.
    sums = np.vstack([np.zeros(frames.shape[1]), np.cumsum(frames - frames.mean(0), axis=0)])
    middle = np.arange(1, count)
    start, end = np.maximum(middle - window, 0), np.minimum(middle + window, count)
    before, after = (middle - start)[:, None], (end - middle)[:, None]
    jump = (sums[end] - sums[middle]) / after - (sums[middle] - sums[start]) / before
    scores[1:] = np.linalg.norm(jump, axis=1) * np.sqrt(before * after / (before + after))[:, 0]
    scale = float(scores.max())
    if scale <= ROUNDING * float(np.linalg.norm(frames, axis=1).mean()):
        return np.zeros(count)
    return scores / scale


def peaks(scores: NDArray[np.floating], suppression: int, quantile: float) -> NDArray[np.bool_]:
    """Frames that are the greatest within +-`suppression` frames and reach the quantile.

    Args:
        scores: (N,) of one episode, not negative.
        suppression: frames; of equal neighbours the first is the peak.
        quantile: in [0, 1], of this episode's scores.

    Returns:
        (N,); a score of 0 is never a peak.
    """
    scores = np.asarray(scores, np.float64)
    found = scores > 0
    if not len(scores):
        return found
    found &= scores >= np.quantile(scores, quantile)
    for shift in range(1, min(suppression, len(scores) - 1) + 1):
        found[shift:] &= scores[shift:] > scores[:-shift]
        found[:-shift] &= scores[:-shift] >= scores[shift:]
    return found
