"""Event boundaries as data: labels from phases, matching within a tolerance, what detectors score.

A frame is a boundary if the simulator's phase there is not that of the frame before; the expert
decides its phase from what it sees at a frame, so the label belongs to that frame's picture. Found
and true boundaries are matched one to one within a tolerance, because a neighbour of the true frame
carries the same text. The tolerance must stay below half the distance of boundaries: where phases
last four frames, evenly spaced guesses are nearly perfect at a tolerance of two. Precision and
recall are therefore always written beside those of such guesses, which are even told how many
boundaries an episode has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualvla.conventions import ENVIRONMENT_STATE_NAMES

RESAMPLES = 10_000
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

PHASE = ENVIRONMENT_STATE_NAMES.index("phase")


@dataclass(frozen=True)
class Labels:
    """Boundaries of the episodes that have any labels, split once for training and for scoring."""

    boundaries: Mapping[int, Mask]  # by episode, its place in the data set: (T,)
    training: tuple[int, ...]
    heldout: tuple[int, ...]  # all other labelled episodes


def from_environment(environment: NDArray[np.floating]) -> Mask | None:
    """Boundaries of one episode, (T,), from its (T, K) conventions.ENVIRONMENT_STATE_NAMES.

    None where a frame has no phase: another policy than the scripted expert acted.
    """
    phases = np.rint(environment[:, PHASE]).astype(int)
    return None if (phases < 0).any() else from_phases(phases)


def from_phases(phases: NDArray[np.integer]) -> Mask:
    """(T,) True where a phase differs from the one before; never at the first frame."""
    found = np.zeros(len(phases), bool)
    found[1:] = phases[1:] != phases[:-1]
    return found


def split(boundaries: Mapping[int, Mask], tasks: Sequence[str], count: int, seed: int) -> Labels:
    """Choose the episodes a detector is trained on: `count`, the same number of every task.

    Args:
        boundaries: of the labelled episodes, by place in the data set.
        tasks: task of every episode of the data set.
        count: episodes to train on; at most half of the labelled ones, and one if there is but one.
        seed: of the choice.
    """
    rng = np.random.default_rng([seed, 0x45564E54])
    queues: dict[str, list[int]] = {}
    for episode in rng.permutation(sorted(boundaries)).tolist():
        queues.setdefault(tasks[episode], []).append(episode)
    # The first of every task, then the second of every task, and so on.
    places = [(place, task, e) for task in queues for place, e in enumerate(queues[task])]
    count = min(count, max(1, len(boundaries) // 2))
    order = [episode for _, _, episode in sorted(places)]
    return Labels(boundaries, tuple(sorted(order[:count])), tuple(sorted(order[count:])))


def matches(true: Ints, found: Ints, tolerance: int) -> list[tuple[int, int]]:
    """Pairs of a true and a found boundary at most `tolerance` frames apart, each in one pair.

    Both are rising frame numbers. Taking the earliest pair that fits is as many pairs as any
    matching has, since all tolerances are equal.
    """
    pairs = []
    i = j = 0
    while i < len(true) and j < len(found):
        ahead = int(found[j]) - int(true[i])
        if abs(ahead) <= tolerance:
            pairs.append((int(true[i]), int(found[j])))
        i += ahead >= -tolerance
        j += ahead <= tolerance
    return pairs


def evenly(length: int, count: int) -> Mask:
    """The baseline of a fixed stride: (length,) with `count` < `length` boundaries."""
    found = np.zeros(length, bool)
    found[np.rint(np.arange(1, count + 1) * length / (count + 1)).astype(int)] = True
    return found


def figures(true: Sequence[Mask], found: Sequence[Mask], tolerance: int) -> dict[str, Any]:
    """Precision, recall and F1 over all boundaries of some episodes, with their counts.

    Args:
        true: (T,) an episode.
        found: (T,) an episode, the same episodes in the same order.
        tolerance: frames a found boundary may lie from its true one.

    Returns:
        `matched`, `found`, `true`, and `precision`, `recall`, `f1` in [0, 1]; a share of nothing is
        None. `low` and `high` bound f1: 95 % percentiles of a bootstrap over episodes.
    """
    counts = np.array(
        [
            (len(matches(np.flatnonzero(a), np.flatnonzero(b), tolerance)), b.sum(), a.sum())
            for a, b in zip(true, found, strict=True)
        ]
    ).reshape(-1, 3)
    matched, count_found, count_true = counts.sum(0).tolist()
    low, high = _f1_interval(counts)

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "matched": matched,
        "found": count_found,
        "true": count_true,
        "precision": share(matched, count_found),
        "recall": share(matched, count_true),
        "f1": share(2 * matched, count_found + count_true),
        "low": low,
        "high": high,
    }


def _f1_interval(counts: NDArray[np.integer]) -> tuple[float, float]:
    """Bounds of f1 from each episode's matched, found and true; (0, 1) where nothing is known."""
    episodes = len(counts)
    if not counts[:, 1:].sum():
        return 0.0, 1.0
    draws = np.random.default_rng(0).multinomial(
        episodes, np.full(episodes, 1 / episodes), RESAMPLES
    )
    matched, found, true = (draws @ counts).T
    known = found + true > 0
    low, high = np.quantile(2 * matched[known] / (found + true)[known], [0.025, 0.975])
    return float(low), float(high)


def table(labels: Labels, found: Mapping[str, Sequence[Mask]], tolerance: int) -> dict[str, Any]:
    """Figures of several ways to find boundaries on the held-out episodes, as plain data.

    A fixed stride, told the true number of boundaries of each episode, is always among them.

    Args:
        labels: split labels.
        found: by name, the boundaries (T,) of every episode, labelled or not, by its number.
        tolerance: frames.
    """
    true = [labels.boundaries[episode] for episode in labels.heldout]
    methods = {"fixed_stride": [evenly(len(mask), int(mask.sum())) for mask in true]}
    methods |= {name: [masks[i] for i in labels.heldout] for name, masks in found.items()}
    return {
        "tolerance": tolerance,
        "training_episodes": list(labels.training),
        "heldout": {
            "episodes": len(true),
            "frames": sum(map(len, true)),
            "boundaries": int(sum(mask.sum() for mask in true)),
        },
        "methods": {name: figures(true, masks, tolerance) for name, masks in methods.items()},
    }


def describe(events: Mapping[str, Any]) -> str:
    """A `table` in one line, for logs."""
    heldout = events["heldout"]
    scores = ", ".join(
        f"{name} {'-' if row['f1'] is None else format(row['f1'], '.2f')}"
        for name, row in events["methods"].items()
    )
    what = f"{heldout['boundaries']} boundaries of {heldout['episodes']} held-out episodes"
    return f"F1 over {what}, within {events['tolerance']} frames: {scores}"
