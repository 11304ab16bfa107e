"""Greedy decoding on a key-value cache that the action queries then reuse.

Transformers' own `generate` gives text but not the cache with the masks that a second kind of input
needs; this is the loop behind it, for left-padded batches. A policy's text is much like its last
one, so a single row may bring that as a draft: the decoder reads a stretch of it in one pass and
keeps what it would have written itself. The text is the same, but for rounding; what is given up is
drafts for batches, whose rows would part after their first differences.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from dualvla.models import experts
from dualvla.models import vlm as vlms
from dualvla.models.processing import Processor

MAX_NEW_TOKENS = 64
STRETCH = 8  # draft tokens read in one pass: more are seldom all right
NEAR = 4  # draft tokens among which the text is met again after a difference


@dataclass
class Prefix:
    """A batch whose past is in the cache."""

    cache: DynamicCache
    mask: Tensor  # (B, T) 1 where a token counts
    logits: Tensor  # (B, vocabulary) of the next token
    picture: range  # positions of the image tokens


def start(
    vlm: vlms.Vlm,
    processor: Processor,
    encoded: Tensor,
    prompts: list[list[int]],
    *,
    acting: bool = False,
) -> Prefix:
    """Run the decoder over pictures (B, V, Dv) and prompts.

    Args:
        vlm: the model.
        processor: tokens.
        encoded: vision tower output.
        prompts: tokens of each row.
        acting: whether they belong to the actions' stream, where there are two.
    """
    experts.set_route(vlm, acting)
    sequences = processor.pad(prompts, [[] for _ in prompts])
    embeddings = vlms.embed(vlm, sequences.input_ids.to(encoded.device), vlms.project(vlm, encoded))
    nothing = embeddings.new_zeros(len(prompts), 0).long()
    prefix = Prefix(DynamicCache(), nothing, embeddings, processor.picture)
    hidden = extend(vlm, prefix, embeddings, sequences.attention_mask.to(encoded.device))
    prefix.logits = vlm.lm_head(hidden[:, -1]).float()
    return prefix


def extend(vlm: vlms.Vlm, prefix: Prefix, embeddings: Tensor, mask: Tensor) -> Tensor:
    """Append inputs (B, t, D) with their mask (B, t); returns their hidden states."""
    prefix.mask = torch.cat([prefix.mask, mask], dim=1)
    positions = vlms.positions(prefix.mask)[:, -embeddings.shape[1] :]
    return vlms.read(vlm, embeddings, prefix.mask, positions, prefix.picture, cache=prefix.cache)


def append(vlm: vlms.Vlm, prefix: Prefix, tokens: Tensor, active: Tensor) -> None:
    """Append one token (B,) to each row; rows that are not `active` (B,) do not see it."""
    embeddings = vlm.get_input_embeddings()(tokens[:, None])
    hidden = extend(vlm, prefix, embeddings, active.long()[:, None])
    prefix.logits = vlm.lm_head(hidden[:, -1]).float()


def greedy(
    vlm: vlms.Vlm,
    prefix: Prefix,
    eos: int,
    active: Tensor,
    limit: int = MAX_NEW_TOKENS,
) -> list[list[int]]:
    """Write the most likely tokens until every active row (B,) has ended; the end is appended too.

    Returns:
        Tokens of each row without the end.
    """
    written: list[list[int]] = [[] for _ in range(len(active))]
    for count in range(limit):
        if not bool(active.any()):
            break
        tokens = prefix.logits.argmax(-1)
        if count == limit - 1:
            tokens = torch.full_like(tokens, eos)
        append(vlm, prefix, tokens, active)
        for row in active.nonzero()[:, 0].tolist():
            if int(tokens[row]) != eos:
                written[row].append(int(tokens[row]))
        active = active & (tokens != eos)
    return written


def redraft(
    vlm: vlms.Vlm, prefix: Prefix, eos: int, draft: list[int], limit: int = MAX_NEW_TOKENS
) -> list[int]:
    """`greedy` for a prefix of one row, sped up by a text that is likely to be similar.

    Args:
        vlm: the model.
        prefix: one row; the written tokens and the end are appended.
        eos: token of the end.
        draft: tokens without the end, of any length.
        limit: greatest number of tokens, with the end.

    Returns:
        Tokens without the end.
    """
    written: list[int] = []
    rest = [*draft, eos]  # the draft behind what is written
    while not written or written[-1] != eos:
        token = eos if len(written) == limit - 1 else int(prefix.logits[0].argmax())
        rest = _behind(token, rest)
        room = limit - 2 - len(written)
        ahead = [] if token == eos else rest[: min(STRETCH, room)]
        logits = _read(vlm, prefix, [token, *ahead])
        following = logits[0].argmax(-1).tolist()
        right = 0  # tokens of the draft that the model writes too
        while right < len(ahead) and ahead[right] == following[right]:
            right += 1
        written += [token, *ahead[:right]]
        rest = rest[right:]
        forget(prefix, len(ahead) - right)
        prefix.logits = logits[:, right]
    return written[:-1]


def _behind(token: int, rest: list[int]) -> list[int]:
    """The draft behind `token`, which is found near its start or stands for its first token."""
    near = rest[:NEAR]
    return rest[near.index(token) + 1 if token in near else 1 :]


def _read(vlm: vlms.Vlm, prefix: Prefix, tokens: list[int]) -> Tensor:
    """Append tokens to a prefix of one row; logits (1, t, vocabulary) after each."""
    ids = torch.tensor([tokens], device=prefix.mask.device)
    hidden = extend(vlm, prefix, vlm.get_input_embeddings()(ids), torch.ones_like(ids))
    return vlm.lm_head(hidden).float()


def forget(prefix: Prefix, count: int) -> None:
    """Take the last `count` tokens out of the cache again."""
    if count:
        prefix.cache.crop(-count)
        prefix.mask = prefix.mask[:, :-count]
