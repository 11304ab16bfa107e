"""How a sequence of two streams is laid out: words first, actions behind them.

A robot row is `picture command <think> text <eos>` in the words' stream, or nothing, and then
`picture command <act>` in the actions' stream; a question is words alone. Both streams read the
picture and the command, each with its own weights, at the price of tokens that stand there twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dualvla.models.processing import Processor, Sequences

NOTHING = -100  # label of a token that is not predicted


@dataclass(frozen=True)
class Row:
    """One sequence of T tokens."""

    ids: list[int]
    labels: list[int]  # what is to be predicted at each place, or NOTHING
    words: int  # tokens of the words' stream, which come first


def question(prompt: list[int], answer: list[int]) -> Row:
    """A question with its answer."""
    return Row([*prompt, *answer], [NOTHING] * len(prompt) + answer, len(prompt) + len(answer))


def action(processor: Processor, prompt: list[int], text: str | None) -> Row:
    """A command, after a text or at once; nothing is to be predicted."""
    words = [] if text is None else [*prompt, *processor.reasoning(text)]
    ids = [*words, *prompt, processor.act_id]
    return Row(ids, [NOTHING] * len(ids), len(words))


def pad(processor: Processor, rows: Sequence[Row]) -> Sequences:
    """Left-padded rows with their streams."""
    length = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), length), processor.pad_id, np.int64)
    labels = np.full((len(rows), length), NOTHING, np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    acting = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        at = length - len(row.ids)
        ids[i, at:], labels[i, at:], mask[i, at:] = row.ids, row.labels, 1
        acting[i, at + row.words :] = True
    return Sequences(*(torch.from_numpy(a) for a in (ids, mask, labels, acting)))
