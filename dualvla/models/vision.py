"""The tiny vision tower: a convolution stem whose tokens say where things are.

Pooled image tokens alone leave a tiny policy near half success; what moves a gripper is geometry.
This tower therefore predicts, for each slot of `objects.SLOTS`, a heat map, and reads off it the
image position, the 3-D position in the robot base frame, the yaw and whether the slot is there.
Those numbers travel inside the slot's token, beside learned features, and a coarse grid of image
tokens follows. The price is that the slots need labels (simulator state) for pre-training; real
checkpoints bring a vision tower of their own and use none of this.

Legend: B batch, S slots, G grid cells of the heat map, D hidden size.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from dualvla.objects import SLOTS

# Centre and half range of base-frame positions, metres: makes regressed numbers about one.
WORKSPACE_CENTRE = (0.30, 0.0, 0.08)
WORKSPACE_SCALE = (0.15, 0.15, 0.10)
PREDICTED = 7  # x, y, z, sin, cos, presence, opening
# u and v also travel as sines and cosines of these many octaves: a linear layer reads a percent off
# waves, hardly off a raw coordinate.
OCTAVES = 5
NUMBERS = PREDICTED + 2 + 4 * OCTAVES


class Slots(NamedTuple):
    """Dense predictions; positions are normalised as the module's constants say."""

    heat: Tensor  # (B, S, G) logits of where the slot's centre is
    uv: Tensor  # (B, S, 2) image position in [0, 1]
    xyz: Tensor  # (B, S, 3) base frame, normalised by WORKSPACE_*
    yaw: Tensor  # (B, S, 2) sine and cosine of the symmetric yaw
    presence: Tensor  # (B, S) logit
    opening: Tensor  # (B, S) opening of the gripper, in its slot only


class SlotVisionConfig(PretrainedConfig):
    """Sizes of `SlotVisionModel`."""

    model_type = "dualvla_slot_vision"

    def __init__(
        self, hidden_size: int = 96, image_size: int = 128, channels: int = 64, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.image_size = image_size
        self.channels = channels
        self.num_hidden_layers = 1


class _Block(nn.Module):
    """Two 3x3 convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(self.norm(x))))


class SlotVisionModel(PreTrainedModel):
    """Image to slot tokens and grid tokens: (B, 3, H, W) -> (B, S + 16, D)."""

    config_class = SlotVisionConfig
    base_model_prefix = "slot_vision"
    main_input_name = "pixel_values"
    _no_split_modules = ["_Block"]  # noqa: RUF012

    def __init__(self, config: SlotVisionConfig) -> None:
        super().__init__(config)
        width, hidden, slots = config.channels, config.hidden_size, len(SLOTS)
        # Patches of 4x4 lose nothing (48 numbers in, 48 out) and cost a fraction of a convolution.
        self.stem = nn.Sequential(
            nn.Conv2d(3, 48, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(48, width, 3, stride=2, padding=1),
            _Block(width),
        )
        self.down = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), _Block(width))
        self.context = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1), _Block(width), _Block(width)
        )
        self.fuse = nn.Sequential(_Block(width), nn.GroupNorm(8, width), nn.ReLU())
        self.heat = nn.Conv2d(width, slots, 1)
        self.offset = nn.Conv2d(width, slots * 2, 1)
        self.slot_embedding = nn.Parameter(torch.randn(slots, 2 * hidden) * 0.2)
        self.slot_in = nn.Linear(3 * width + 2 + 4 * OCTAVES, 2 * hidden)
        self.slot_mlp = nn.Sequential(nn.GELU(), nn.Linear(2 * hidden, hidden), nn.GELU())
        self.numbers = nn.Linear(hidden, PREDICTED)
        self.slot_out = nn.Linear(hidden, hidden - NUMBERS)
        # Which slot a token is, in a code that whatever reads the tokens can tell at once.
        self.identity = nn.Parameter(torch.randn(slots, hidden - NUMBERS), requires_grad=False)
        self.grid_out = nn.Linear(width * 4, hidden)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep PyTorch's own initialisation."""

    def dense(self, pixel_values: Tensor) -> tuple[Slots, Tensor, Tensor]:
        """Slot predictions, slot features (B, S, D) and the coarse grid (B, D, 8, 8)."""
        fine = self.stem(pixel_values)
        middle = self.down(fine)
        coarse = self.context(middle)
        middle = middle + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = self.fuse(fine + F.interpolate(middle, scale_factor=2.0, mode="nearest"))
        b, _, h, w = fine.shape
        heat = self.heat(fine).flatten(2).float()  # B S G
        weights = heat.softmax(-1)
        rows = (torch.arange(h, device=fine.device) + 0.5) / h
        columns = (torch.arange(w, device=fine.device) + 0.5) / w
        centres = torch.stack(
            [columns.repeat(h), rows.repeat_interleave(w)], dim=-1
        )  # G 2, u then v
        offset = self.offset(fine).view(b, len(SLOTS), 2, h * w).transpose(2, 3).float() / h
        uv = (weights[..., None] * (centres + offset)).sum(2)
        pooled = weights.to(fine.dtype) @ fine.flatten(2).transpose(1, 2)  # B S D
        # What lies just there, and the coarser level around it: yaw, height, what occludes it.
        place = uv[:, :, None] * 2 - 1
        local = [
            F.grid_sample(level.float(), place, align_corners=False, padding_mode="border")
            for level in (fine, middle)
        ]
        near = [level[..., 0].transpose(1, 2).to(fine.dtype) for level in local]
        features = torch.cat([pooled, *near, waves(uv).to(fine.dtype)], dim=-1)
        features = self.slot_mlp(self.slot_in(features) + self.slot_embedding)
        numbers = self.numbers(features).float()
        slots = Slots(
            heat, uv, numbers[..., 0:3], numbers[..., 3:5], numbers[..., 5], numbers[..., 6]
        )
        return slots, features, middle

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """Tokens of an image, as `last_hidden_state` and as the only hidden state."""
        slots, features, middle = self.dense(pixel_values)
        presence = slots.presence.sigmoid()[..., None]
        opening = slots.opening[..., None]
        where = torch.cat([waves(slots.uv), slots.xyz, slots.yaw, opening], dim=-1)
        # What is not there has no place: its numbers would be noise to whatever reads the token.
        numbers = torch.cat([presence, presence * where], dim=-1)
        described = self.identity + self.slot_out(features)
        slot_tokens = torch.cat([numbers.to(features.dtype), described], dim=-1)
        pooled = F.adaptive_avg_pool2d(middle, 8)
        grid = F.pixel_unshuffle(pooled, 2).flatten(2).transpose(1, 2)
        tokens = torch.cat([slot_tokens, self.grid_out(grid)], dim=1)
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


def waves(uv: Tensor) -> Tensor:
    """Image positions (..., 2) in [0, 1] as themselves about 0, and as `OCTAVES` of waves."""
    octaves = 2.0 ** torch.arange(OCTAVES, device=uv.device) * torch.pi
    angles = (uv[..., None] * octaves).flatten(-2)
    return torch.cat([uv * 2 - 1, angles.sin(), angles.cos()], dim=-1)


NUM_TOKENS = len(SLOTS) + 16

AutoConfig.register(SlotVisionConfig.model_type, SlotVisionConfig)
AutoModel.register(SlotVisionConfig, SlotVisionModel)
