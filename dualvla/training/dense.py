"""Dense pre-training of the tiny vision tower: where each thing of a picture is.

Grounding does not emerge from questions alone at this size (a prototype stuck near 38 %); from
labelled pictures it takes seconds. The targets come from `scenes.parquet`: image position, base
frame position, yaw up to the thing's symmetry, presence, gripper opening. Colour jitter is the only
augmentation, because moving the picture would break the geometry.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dualvla.models.vision import WORKSPACE_CENTRE, WORKSPACE_SCALE, SlotVisionModel
from dualvla.objects import BY_NAME, SLOTS
from dualvla.training import loop, sharding
from dualvla.training.loop import Losses

MIN_VISIBLE = 0.15  # share of a thing that must be seen for its position to be a target
HEAT_SIGMA = 0.6  # of the target heat map, in grid cells
# A long thing looks the same after half a turn, a square one after a quarter; yaw is of no use
# where the shape is round.
SYMMETRY = {"long": 2, "square": 4, "round": 0}


@dataclass(frozen=True)
class DenseLabels:
    """Targets of N pictures; S slots."""

    present: Tensor  # (N, S) 0 or 1; 0.5 is not used
    seen: Tensor  # (N, S) bool: positions are targets
    uv: Tensor  # (N, S, 2) in [0, 1]
    xyz: Tensor  # (N, S, 3) normalised
    yaw: Tensor  # (N, S, 2) sine and cosine of symmetry * yaw
    turned: Tensor  # (N, S) bool: yaw is a target
    opening: Tensor  # (N,) gripper opening in [0, 1]


def labels(table: Any, images: list[str]) -> DenseLabels:
    """Targets from the rows of `scenes.parquet` for `images`, in that order.

    Args:
        table: pandas frame (image, object, u, v, x, y, z, yaw, visible, opening).
        images: picture names.
    """
    n, s = len(images), len(SLOTS)
    row_of = {name: i for i, name in enumerate(images)}
    slot_of = {name: i for i, name in enumerate(SLOTS)}
    numbers = np.zeros((n, s, 8), np.float32)
    known = np.zeros((n, s), bool)
    picked = table[table["image"].isin(row_of)]
    rows = picked["image"].map(row_of).to_numpy()
    slots = picked["object"].map(slot_of).to_numpy()
    columns = ["u", "v", "x", "y", "z", "yaw", "visible", "opening"]
    numbers[rows, slots] = picked[columns].to_numpy(np.float32)
    known[rows, slots] = True
    orders = np.array([SYMMETRY[BY_NAME[x].shape] if x in BY_NAME else 0 for x in SLOTS])
    # The gripper's own slot has no fixed shape: its yaw is that of the fingers, half a turn.
    orders[slot_of["gripper"]] = 2
    visible = np.nan_to_num(numbers[..., 6])
    seen = known & (visible >= MIN_VISIBLE)
    angle = np.nan_to_num(numbers[..., 5]) * orders
    xyz = (numbers[..., 2:5] - WORKSPACE_CENTRE) / WORKSPACE_SCALE
    return DenseLabels(
        present=torch.from_numpy((known & (visible > 0)).astype(np.float32)),
        seen=torch.from_numpy(seen),
        uv=torch.from_numpy(np.nan_to_num(numbers[..., :2])),
        xyz=torch.from_numpy(np.nan_to_num(xyz).astype(np.float32)),
        yaw=torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)], -1).astype(np.float32)),
        turned=torch.from_numpy(seen & (orders > 0)[None]),
        opening=torch.from_numpy(np.nan_to_num(numbers[:, slot_of["gripper"], 7])),
    )


def rows(wanted: DenseLabels, chosen: NDArray[np.int64]) -> DenseLabels:
    """The labels of some pictures."""
    return DenseLabels(**{f.name: getattr(wanted, f.name)[chosen] for f in fields(wanted)})


def losses(tower: SlotVisionModel, pixels: Tensor, wanted: DenseLabels) -> Losses:
    """Loss of a batch of pictures (B, 3, H, W) with their labels."""
    slots, _, _ = tower.dense(pixels)
    side = round(slots.heat.shape[-1] ** 0.5)
    cells = (torch.arange(side, device=pixels.device) + 0.5) / side
    grid = torch.stack([cells.repeat(side), cells.repeat_interleave(side)], -1)  # G 2
    seen, turned, uv = wanted.seen, wanted.turned, wanted.uv
    distance = (grid - uv[:, :, None]).square().sum(-1) * side**2
    heat_target = (-distance / (2 * HEAT_SIGMA**2)).softmax(-1)
    heat = -(heat_target * slots.heat.log_softmax(-1)).sum(-1)[seen].mean()
    parts = {
        "heat": heat,
        "uv": F.smooth_l1_loss(slots.uv[seen], uv[seen], beta=0.01),
        "xyz": F.smooth_l1_loss(slots.xyz[seen], wanted.xyz[seen], beta=0.05),
        "yaw": F.mse_loss(slots.yaw[turned], wanted.yaw[turned]),
        "presence": F.binary_cross_entropy_with_logits(slots.presence, wanted.present),
        "opening": F.mse_loss(slots.opening[:, -1], wanted.opening),
    }
    counts = {"yaw": int(turned.sum()), "presence": len(pixels), "opening": len(pixels)}
    parts = {
        name: sharding.weighted(part, counts.get(name, int(seen.sum())))
        for name, part in parts.items()
    }
    weights = {"heat": 0.3, "uv": 10.0, "xyz": 2.0, "yaw": 1.0, "presence": 1.0, "opening": 2.0}
    total = torch.stack([weight * parts[name] for name, weight in weights.items()]).sum()
    return {"loss": total, **parts}


def jitter(pixels: Tensor, seed: int, step: int) -> Tensor:
    """Brightness, contrast and colour balance of normalised pictures (B, 3, H, W), by step."""
    generator = loop.generator(seed, step)
    gain = 1 + 0.15 * torch.randn(len(pixels), 3, 1, 1, generator=generator) * 0.5
    common = 1 + 0.2 * (torch.rand(len(pixels), 1, 1, 1, generator=generator) - 0.5)
    shift = 0.15 * torch.randn(len(pixels), 1, 1, 1, generator=generator)
    return pixels * gain * common + shift


def errors(tower: SlotVisionModel, pixels: Tensor, wanted: DenseLabels) -> dict[str, float]:
    """Median held-out errors: millimetres, pixels of 128, degrees; and presence accuracy."""
    with torch.no_grad():
        where = next(tower.parameters()).device
        predicted = [tower.dense(part.to(where))[0] for part in pixels.split(64)]
    uv = torch.cat([p.uv for p in predicted]).cpu()
    xyz = torch.cat([p.xyz for p in predicted]).cpu()
    yaw = torch.cat([p.yaw for p in predicted]).cpu()
    presence = torch.cat([p.presence for p in predicted]).cpu()
    scale = torch.tensor(WORKSPACE_SCALE)
    seen, turned = wanted.seen, wanted.turned
    distance = ((xyz - wanted.xyz) * scale).norm(dim=-1)[seen] * 1000
    cosine = F.cosine_similarity(yaw[turned], wanted.yaw[turned], dim=-1).clamp(-1, 1)
    return {
        "xyz_mm": float(distance.median()),
        "xyz_mm_p90": float(distance.quantile(0.9)),
        "uv_px": float((uv - wanted.uv)[seen].norm(dim=-1).median() * 128),
        "yaw_deg": float(cosine.acos().rad2deg().median() / 2),
        "presence": float(((presence > 0) == (wanted.present > 0.5)).float().mean()),
    }
