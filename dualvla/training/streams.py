"""What a policy with two streams is taught: words first, where there are any, then actions.

A robot row is `picture command <think> text <eos>` in the words' stream, or nothing, and then
`picture command <act>` in the actions' stream. The words are the text in force: written about this
frame, which is what the words learn from, or kept since the last event together with the picture
they were about, so that the actions learn to live with a text that is not quite fresh. Where no
fresh text is shown, the last token of the command learns whether to write one. A row is one of
these throughout a run; what is given up is that each frame meets all three.

Legend: N robot frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualvla.models.processing import Processor
from dualvla.models.streams import NOTHING, Row

# Free-form commands need a text: so many rows show the one in force, of the others a fresh one.
HELD_SHARE, FRESH_SHARE = 0.5, 0.75
KEY_SHARE = 0.5  # of a plain command's key frames that show a fresh text

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Streams:
    """The words' stream of each robot frame, and the decision that is learnt beside it."""

    words: Sequence[list[int]]  # prompt and text; empty: nothing
    learnt: Ints  # (N,) tokens at the end of the words that are predicted
    seen: Ints  # (N,) row of the frame whose picture the words are about
    decision: Ints  # (N,) token to decide for, or NOTHING

    def select(self, rows: Ints) -> "Streams":
        """Those of some frames; `seen` still counts all of them."""
        words = [self.words[int(i)] for i in rows]
        return Streams(words, self.learnt[rows], self.seen[rows], self.decision[rows])


def plan(
    processor: Processor,
    prompts: Sequence[list[int]],
    texts: Sequence[str | None],
    episodes: Sequence[int],
    *,
    key: NDArray[np.bool_],
    free: NDArray[np.bool_],
    seed: int,
) -> Streams:
    """Decide what each frame's row holds.

    Args:
        processor: tokens.
        prompts: (N) of the commands.
        texts: (N) reasoning about each frame.
        episodes: (N) in blocks, frames in order.
        key: (N,) frames that keep their reasoning: the events.
        free: (N,) frames whose command is not a plain one.
        seed: of the choice between the three kinds of rows.
    """
    count = len(prompts)
    words: list[list[int]] = [[] for _ in range(count)]
    learnt, seen = np.zeros(count, np.int64), np.arange(count)
    decision = np.full(count, NOTHING, np.int64)
    draws = np.random.default_rng([seed, 0x5354]).random((count, 2))
    episode, held, about = None, None, 0
    for i in range(count):
        if episodes[i] != episode:
            episode, held = episodes[i], None
        fresh = processor.reasoning(texts[i]) if texts[i] else None
        wanted = bool(key[i]) and fresh is not None
        shows_held = free[i] and held is not None and draws[i, 0] < HELD_SHARE
        if fresh is None or shows_held:
            shows_fresh = False
        elif free[i]:
            wanted = True  # nothing else tells what such a command asks for
            shows_fresh = bool(draws[i, 1] < FRESH_SHARE)
        else:
            shows_fresh = wanted and bool(draws[i, 0] < KEY_SHARE)
        if shows_fresh:
            assert fresh is not None
            words[i], learnt[i] = [*prompts[i], *fresh], len(fresh) - 1  # to think is no question
        else:
            decision[i] = processor.think_id if wanted else processor.act_id
        if shows_held:
            assert held is not None
            words[i], seen[i] = [*prompts[i], *held], about
        if fresh is not None and (key[i] or held is None):
            held, about = fresh, i
    return Streams(words, learnt, seen, decision)


def row(streams: Streams, frame: int, prompt: list[int], act: int) -> Row:
    """Tokens and labels of one robot frame."""
    words, learnt = streams.words[frame], int(streams.learnt[frame])
    ids = [*words, *prompt, act]
    labels = [NOTHING] * len(ids)
    labels[len(words) - learnt : len(words)] = words[len(words) - learnt :]
    labels[-1] = int(streams.decision[frame])
    return Row(ids, labels, len(words))
