"""Any Hugging Face image-text-to-text model, seen through four functions.

The tiny default is a `LlavaForConditionalGeneration` with a small Llama decoder and this project's
vision tower, so that it and a real checkpoint run the same code: encode a picture, project it into
the decoder's space, embed tokens, run the decoder. What the architectures do differently is data in
`families`. Encoding is apart from projecting because a frozen tower's output can be computed once
per picture and kept; that is most of a tiny model's training time. Models whose decoder wants more
than embeddings and positions are not supported.
"""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    DynamicCache,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from dualvla.config import ModelShape
from dualvla.errors import UserError
from dualvla.models import families, vision
from dualvla.models.processing import Processor

Vlm: TypeAlias = families.Vlm

NUMBER_GAIN = 3.0  # of the integers' embeddings over the others'


def tiny(shape: ModelShape, image_size: int, processor: Processor) -> Vlm:
    """A from-scratch model; weights depend on torch's global seed alone."""
    text = LlamaConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.width * 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=512,
        initializer_range=shape.width**-0.5,  # the usual 0.02 suits widths in the thousands
        tie_word_embeddings=True,
        pad_token_id=processor.pad_id,
        bos_token_id=processor.start_ids[0],
        eos_token_id=processor.eos_id,
    )
    config = LlavaConfig(
        vision_config=vision.SlotVisionConfig(image_size=image_size),
        text_config=text,
        image_token_index=processor.image_id,  # type: ignore[arg-type]
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    # Plain matmul-softmax attention: SDPA's backward is several times slower on a CPU at this size.
    config._attn_implementation = "eager"
    return LlavaForConditionalGeneration(config)


def count_in_waves(model: Vlm, processor: Processor) -> None:
    """Give the integers 0 to 100 embeddings that lie on a curve instead of anywhere.

    Positions are spoken as percent. With embeddings made of the waves in which the vision tower
    writes positions, reading one off is a linear map and neighbours are alike; from random ones the
    tiny model does not find it in thousands of steps.
    """
    weight = model.get_input_embeddings().weight
    spoken = {n: processor.encode(str(n)) for n in range(101)}
    single = {n: ids[0] for n, ids in spoken.items() if len(ids) == 1}
    share = torch.tensor(list(single), dtype=torch.float32) / 100
    curve = vision.waves(torch.stack([share, share], dim=-1))
    mixed = curve @ torch.randn(curve.shape[-1], weight.shape[1]) / curve.shape[-1] ** 0.5
    with torch.no_grad():
        weight[list(single.values())] = mixed * weight.std() * NUMBER_GAIN


def load(path: str | Path) -> Vlm:
    """Load a model folder, or a checkpoint name where the hub can be reached.

    Raises:
        UserError: nothing there, damaged weights, or weights of another shape.
    """
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            str(path), output_loading_info=True, dtype=torch.float32, attn_implementation="eager"
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"cannot load the vision-language model: {reason}",
            where=str(path),
            fix="name a folder or a checkpoint that transformers can load",
        ) from error
    model, info = loaded
    bad = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if bad:
        what = f"{len(bad)} weights are missing, unexpected or of another shape, first {bad[0]}"
        raise UserError(what, where=str(path), fix="load it with the parameters it was made with")
    return model


def encode(vlm: Vlm, pixel_values: Tensor) -> Tensor:
    """What the vision part makes of normalised pictures (B, 3, S, S): (B, N, D_vision)."""
    return families.of(vlm.config).encode(vlm, pixel_values)


def project(vlm: Vlm, encoded: Tensor) -> Tensor:
    """Image tokens in the decoder's space, (B, N, D)."""
    name = families.of(vlm.config).projector
    return encoded if name is None else getattr(vlm.model, name)(encoded)


def tower(vlm: Vlm) -> nn.Module | None:
    """What `encode` runs through, to be frozen apart; None where the model has no such part."""
    words = set(decoder(vlm).modules())
    projector = families.of(vlm.config).projector
    parts = [
        part
        for name, part in vlm.model.named_children()
        if name != projector and words.isdisjoint(part.modules())
    ]
    if len(parts) == 1:
        return parts[0]
    return nn.ModuleList(parts) if parts else None


def embed(vlm: Vlm, input_ids: Tensor, image_tokens: Tensor) -> Tensor:
    """Token embeddings with the image tokens put at their places, (B, T, D)."""
    embeddings = vlm.get_input_embeddings()(input_ids)
    places = (input_ids == vlm.config.image_token_id)[..., None].expand_as(embeddings)
    return embeddings.masked_scatter(places, image_tokens.to(embeddings.dtype))


def decoder(vlm: Vlm) -> nn.Module:
    """The language model without its head; takes `inputs_embeds`, masks, positions and a cache."""
    return vlm.get_decoder()


def read(
    vlm: Vlm,
    embeddings: Tensor,
    mask: Tensor,
    positions: Tensor,
    picture: range,
    *,
    cache: DynamicCache | None = None,
) -> Tensor:
    """Last hidden states (B, t, D) of the decoder.

    Args:
        vlm: the model.
        embeddings: (B, t, D).
        mask: (B, T) 1 where a token counts, with the T - t tokens of the cache; or an additive
            mask (B, 1, t, T).
        positions: (B, t) of each token in its own unpadded sequence.
        picture: positions of the image tokens.
        cache: what was read before; it is extended.
    """
    return decoder(vlm)(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=families.of(vlm.config).positions(positions, picture),
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state


def width(vlm: Vlm) -> int:
    """Hidden size of the decoder."""
    return int(vlm.get_input_embeddings().weight.shape[1])


def vision_width(vlm: Vlm) -> int:
    """Hidden size of `encode`'s output."""
    if families.of(vlm.config).projector is None:
        return width(vlm)
    layers = vlm.config.vision_feature_layer
    return int(vlm.config.vision_config.hidden_size) * np.size(layers)


def positions(attention_mask: Tensor) -> Tensor:
    """Position of each token in its own unpadded sequence, (B, T)."""
    return (attention_mask.cumsum(-1) - 1).clamp_min(0)


def answer_logits(vlm: Vlm, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (M, vocabulary) where a token is to be predicted, and those tokens (M,).

    Only answer positions reach the head: prompts and query tokens carry no loss.
    """
    following = labels[:, 1:]
    wanted = following != -100
    return vlm.lm_head(hidden[:, :-1][wanted]).float(), following[wanted]
