"""Questions packed behind their picture: one row a picture, all its questions in it.

A picture's tokens are most of a short question's row. Here they stand once, the questions follow,
and a mask hides the questions from each other; each token's position is that of a row of its own.
The losses are those of separate rows, at less than half their cost. What is given up is a batch
of questions about as many different pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualvla.data.conversations import Conversation
from dualvla.models.processing import Processor
from dualvla.training import loop

OUTSIDE = -1  # segment of padding; 0 is the picture's, and each question has one of its own


@dataclass(frozen=True)
class Packed:
    """A batch of B pictures with their questions, T tokens a row."""

    encoded: Tensor  # (B, V, Dv)
    input_ids: Tensor  # (B, T) int64
    positions: Tensor  # (B, T) int64, within picture and question
    mask: Tensor  # (B, 1, T, T) float32: 0 where a token is seen, else very negative
    labels: Tensor  # (B, T) int64: the token itself in answers, else -100


@dataclass(frozen=True)
class Packs:
    """P pictures with questions; called with a step it gives that step's batch."""

    encoded: Tensor  # (N, V, Dv)
    picture: NDArray[np.int64]  # (P,) row of `encoded`
    rows: Tensor  # (P, T, 4) int64: token, position, segment, label
    size: int  # pictures a batch
    seed: int

    def __call__(self, step: int) -> Packed:
        """The batch of a step, a pure function of it."""
        chosen = loop.sample(self.seed, step, self.size, len(self.rows))
        rows = self.rows[chosen]
        used = int((rows[..., 2] != OUTSIDE).sum(1).max())
        ids, positions, segments, labels = rows[:, :used].unbind(-1)
        mask = visible(segments)
        return Packed(self.encoded[self.picture[chosen]], ids, positions, mask, labels)


def visible(segments: Tensor) -> Tensor:
    """Additive attention mask (B, 1, T, T) of segments (B, T): the picture and one's own past."""
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    own = segments[:, :, None] == segments[:, None, :]
    seen = earlier & (own | (segments == 0)[:, None, :])
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return mask[:, None]


def pack(
    processor: Processor,
    encoded: Tensor,
    names: Sequence[str],
    asked: Sequence[Conversation],
    *,
    size: int,
    seed: int,
) -> Packs:
    """Pack conversations about pictures `names`, whose tower output is `encoded` (N, V, Dv)."""
    row_of = {name: i for i, name in enumerate(names)}
    about: dict[str, list[Conversation]] = {}
    for one in asked:
        about.setdefault(one.image, []).append(one)
    rows = [_row(processor, questions) for questions in about.values()]
    picture = np.array([row_of[name] for name in about], np.int64)
    filler = torch.tensor([processor.pad_id, 0, OUTSIDE, -100])
    padded = filler.repeat(len(rows), max(map(len, rows)), 1)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return Packs(encoded, picture, padded, size, seed)


def _row(processor: Processor, questions: Sequence[Conversation]) -> Tensor:
    """Token, position, segment and label (T, 4) of a picture with its questions."""
    picture = processor.head
    parts = [(token, i, 0, -100) for i, token in enumerate(picture)]
    for segment, one in enumerate(questions, start=1):
        asked = processor.question_prompt(one.question)[len(picture) :]
        answer = processor.answer(one.answer)
        tokens = [*asked, *answer]
        labels = [-100] * len(asked) + answer
        parts += [
            (token, len(picture) + i, segment, label)
            for i, (token, label) in enumerate(zip(tokens, labels, strict=True))
        ]
    return torch.tensor(parts)
