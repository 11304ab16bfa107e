"""Nearness of trajectories: by what is said and by what is seen, without any model.

Texts become hashed character 3- to 5-grams weighted by rarity, pictures colour and edge averages on
a grid. The paper uses sentence and CLIP ViT-B/32 embeddings; in scenes of a dozen known things and
commands of a dozen words these plain ones find the same task and the same course of events, need no
download and give the same numbers everywhere. For other scenes this is the file to replace.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualvla.interface import ImageArray

Floats = NDArray[np.float64]
Film = Sequence[ImageArray]

BUCKETS = 4096  # of hashed n-grams
LENGTHS = (3, 4, 5)
SIDE, CELLS, TURNS = 64, 4, 8  # pixels looked at, cells a side, directions of edges


@dataclass(frozen=True, eq=False)
class Space:
    """N embedded trajectories; rarity and centre are theirs, so a query changes nothing."""

    rarity: Floats  # (BUCKETS,)
    centre: Floats  # (D,) mean of the pictures: the table and the arm, which all share
    said: Floats  # (N, BUCKETS) unit rows
    seen: Floats  # (N, D) unit rows

    @classmethod
    def of(cls, texts: Sequence[str], films: Sequence[Film]) -> "Space":
        """Embed trajectories by their texts and by equally many pictures each."""
        counts = np.stack([_counts(text) for text in texts])
        rarity = np.log((1 + len(texts)) / (1 + (counts > 0).sum(axis=0))) + 1
        pictures = np.stack([_pictures(film) for film in films])
        centre = pictures.mean(axis=0)
        return cls(rarity, centre, _unit(counts * rarity), _unit(pictures - centre))

    def near(self, text: str, film: Film) -> Floats:
        """(N,) mean of the two cosines with another trajectory, in [-1, 1]."""
        said, seen = _unit(_counts(text) * self.rarity), _unit(_pictures(film) - self.centre)
        return (self.said @ said + self.seen @ seen) / 2

    def all_pairs(self) -> Floats:
        """(N, N) mean of the two cosines."""
        return (self.said @ self.said.T + self.seen @ self.seen.T) / 2


def nearest(similarity: Floats, count: int) -> list[int]:
    """The `count` greatest of (N,), greatest first, ties in order."""
    return [int(index) for index in np.argsort(-similarity, kind="stable")[:count]]


def diverse(similarity: Floats, count: int) -> list[int]:
    """At most `count` of N that cover all, in order of choice: each is farthest from those before.

    Args:
        similarity: (N, N); the first chosen is the one that is least like all others.
        count: how many.
    """
    chosen: list[int] = []
    left = similarity.mean(axis=1)
    while len(chosen) < min(count, len(similarity)):
        left[chosen] = np.inf
        chosen.append(int(np.argmin(left)))
        left = similarity[chosen].max(axis=0)
    return chosen


def _counts(text: str) -> Floats:
    """(BUCKETS,) log of one plus the count of each n-gram."""
    line = f" {' '.join(text.lower().split())} "
    grams = Counter(line[at : at + n] for n in LENGTHS for at in range(len(line) - n + 1))
    counts = np.zeros(BUCKETS)
    for gram, count in grams.items():
        counts[zlib.crc32(gram.encode()) % BUCKETS] += count
    return np.log1p(counts)


def _pictures(film: Film) -> Floats:
    return np.concatenate([_picture(frame) for frame in film])


def _picture(picture: ImageArray) -> Floats:
    """Mean colour and edge directions of each cell."""
    small = Image.fromarray(np.ascontiguousarray(picture)).resize((SIDE, SIDE))
    pixels = np.asarray(small, np.float64) / 255
    down, right = np.gradient(pixels.mean(axis=2))
    turn = ((np.arctan2(down, right) / np.pi + 1) / 2 * TURNS).astype(int) % TURNS
    strength = np.hypot(down, right)
    edges = np.stack([strength * (turn == n) for n in range(TURNS)], axis=2)
    layers = np.concatenate([pixels, 4 * edges], axis=2)
    grid = layers.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS, -1).mean(axis=(1, 3))
    return grid.ravel()


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length > 1e-12, length, 1)
