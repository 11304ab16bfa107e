"""Greedy decoding on a key-value cache that the action queries then reuse.

Transformers' own `generate` gives text but not the cache with the masks that a second kind of input
needs; this is the loop behind it, for left-padded batches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from dualvla.models import vlm as vlms
from dualvla.models.processing import Processor

MAX_NEW_TOKENS = 64


@dataclass
class Prefix:
    """A batch whose past is in the cache."""

    cache: DynamicCache
    mask: Tensor  # (B, T) 1 where a token counts
    logits: Tensor  # (B, vocabulary) of the next token


def start(vlm: vlms.Vlm, processor: Processor, encoded: Tensor, prompts: list[list[int]]) -> Prefix:
    """Run the decoder over pictures (B, V, Dv) and prompts."""
    sequences = processor.pad(prompts, [[] for _ in prompts])
    embeddings = vlms.embed(vlm, sequences.input_ids.to(encoded.device), vlms.project(vlm, encoded))
    prefix = Prefix(DynamicCache(), embeddings.new_zeros(len(prompts), 0).long(), embeddings)
    hidden = extend(vlm, prefix, embeddings, sequences.attention_mask.to(encoded.device))
    prefix.logits = vlm.lm_head(hidden[:, -1]).float()
    return prefix


def extend(vlm: vlms.Vlm, prefix: Prefix, embeddings: Tensor, mask: Tensor) -> Tensor:
    """Append inputs (B, t, D) with their mask (B, t); returns their hidden states."""
    prefix.mask = torch.cat([prefix.mask, mask], dim=1)
    output = vlms.decoder(vlm)(
        inputs_embeds=embeddings,
        attention_mask=prefix.mask,
        position_ids=vlms.positions(prefix.mask)[:, -embeddings.shape[1] :],
        past_key_values=prefix.cache,
        use_cache=True,
    )
    return output.last_hidden_state


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
