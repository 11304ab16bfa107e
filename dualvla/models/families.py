"""What differs between families of vision-language models, as data.

A family is looked up by its config's `model_type` and says how a picture's pixels become tokens,
which positions the decoder reads and how a prompt is written. Everything else is the same code for
all of them. What a checkpoint itself says (size, mean, token ids) is read from it and not repeated
here. Projections that a family keeps inside its vision part (connector, merger) are frozen with it:
the tokens kept per picture are then few and narrow, and what is given up is a projection that
adapts to control. A model of no known family is run as its own `get_image_features` says, which is
right where that takes plain pixels and the decoder counts positions by one.

Legend: B batch, N image tokens, D decoder width, Dv width of what the vision part gives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

# Any `PreTrainedModel` and its config: they differ by architecture, so they are not typed.
Vlm: TypeAlias = Any
Config: TypeAlias = Any

PLAIN = "{start}{picture}{text}"  # `{start}` is the tokenizer's own first token, where it has one
CHATML = "<|im_start|>user\n{picture}{text}<|im_end|>\n<|im_start|>assistant\n"
SMOLVLM = (
    "<|im_start|>User:<fake_token_around_image><global-img>{picture}<fake_token_around_image>"
    "{text}<end_of_utterance>\nAssistant:"
)
QWEN_VL = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|>{picture}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")  # Llama, Qwen2 and most others
MLP = ("gate_proj", "up_proj", "down_proj")
Triple = tuple[float, float, float]
HALF: Triple = (0.5, 0.5, 0.5)
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Family:
    """How models of one architecture see and read.

    Attributes:
        encode: normalised pixels (B, 3, S, S) to vision tokens (B, N, Dv).
        projector: module of `vlm.model` that brings Dv to D; None where `encode` has done it.
        positions: positions (B, T) in the unpadded sequence, and the range of the picture in it,
            to what the decoder takes.
        prompt: text around the picture and the words, up to the answer.
        image_size: of a vision part that takes any size; a checkpoint that names its own wins.
        mean: of the picture normalisation, where the checkpoint brings none.
        std: as mean.
        resample: as mean; name of a Pillow filter.
        projections: of the decoder's attention and MLPs, where low-rank adapters go.
    """

    encode: Callable[[Vlm, Tensor], Tensor]
    projector: str | None = None
    positions: Callable[[Tensor, range], Tensor] = lambda positions, _: positions
    prompt: str = PLAIN
    image_size: int | None = None
    mean: Triple = HALF
    std: Triple = HALF
    resample: str = "bicubic"
    projections: tuple[str, ...] = (*ATTENTION, *MLP)


def _any_features(vlm: Vlm, pixels: Tensor) -> Tensor:
    return torch.stack(list(vlm.get_image_features(pixel_values=pixels).pooler_output))


def _llava_features(vlm: Vlm, pixels: Tensor) -> Tensor:
    layers = vlm.config.vision_feature_layer
    states = vlm.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    chosen = [states[i] for i in ([layers] if isinstance(layers, int) else layers)]
    whole = vlm.config.vision_feature_select_strategy != "default"
    parts = chosen if whole else [state[:, 1:] for state in chosen]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _idefics_features(vlm: Vlm, pixels: Tensor) -> Tensor:
    # `get_image_features` wants (B, pictures, 3, S, S) with a mask and drops pictures that are all
    # zero, which are its padding. One whole picture a row needs neither.
    return vlm.model.connector(vlm.model.vision_model(pixels).last_hidden_state)


def _qwen_features(vlm: Vlm, pixels: Tensor) -> Tensor:
    config = vlm.config.vision_config
    patch, merge, frames = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
    flat, side = patches(pixels, patch, merge, frames), pixels.shape[-1] // patch
    grid = torch.tensor([[1, side, side]] * len(pixels), device=pixels.device)
    merged = vlm.model.visual(flat, grid_thw=grid).pooler_output
    return merged.unflatten(0, (len(pixels), -1))


def patches(pixels: Tensor, patch: int, merge: int, frames: int) -> Tensor:
    """Square pictures (B, 3, S, S) as flat patches (B * (S / patch)^2, 3 * frames * patch^2).

    Patches that are merged into one token follow each other, and a still picture is a film of
    `frames` equal frames.
    """
    blocks = pixels.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))
    ordered = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)  # B, block, block, merge, merge, 3, patch^2
    film = ordered[:, :, :, :, :, :, None].expand(*[-1] * 6, frames, -1, -1)
    return film.flatten(5).flatten(0, 4)


def in_grid(positions: Tensor, picture: range) -> Tensor:
    """Time, row and column (3, B, T): a picture's tokens lie in a square, text goes on behind it.

    Text has the same position on all three axes, and the square takes up as many as its side.
    """
    side = math.isqrt(len(picture))
    place = positions - picture.start
    inside = (place >= 0) & (place < len(picture))
    text = positions - (place >= len(picture)) * (len(picture) - side)
    square = torch.stack([torch.zeros_like(place), place // side, place % side]) + picture.start
    return torch.where(inside, square, text)


_LLAVA = Family(_llava_features, projector="multi_modal_projector")
_EAGLE = Family(_llava_features, projector="multi_modal_projector", prompt=CHATML)
_IDEFICS = Family(_idefics_features, prompt=SMOLVLM, resample="lanczos")
_QWEN_VL = Family(
    _qwen_features,
    positions=in_grid,
    prompt=QWEN_VL,
    image_size=448,  # 256 tokens
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
ANY = Family(_any_features)
# By model type, or by model type and the decoder's where the prompt hangs on that.
FAMILIES = {
    "llava": _LLAVA,
    "llava/qwen2": _EAGLE,
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "qwen2_5_vl": _QWEN_VL,
}


def of(config: Config) -> Family:
    """The family of a model's config; `ANY` for one that is not known."""
    decoder = getattr(getattr(config, "text_config", None), "model_type", "")
    exact = FAMILIES.get(f"{config.model_type}/{decoder}")
    return exact or FAMILIES.get(config.model_type, ANY)
