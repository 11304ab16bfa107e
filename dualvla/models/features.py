"""Vision tower output for many pictures, computed once and kept.

The tower is frozen after the base model's training, so every later stage reads the same numbers:
they are cached in `.cache/features` under a hash of the tower's weights and the pictures. The cache
holds float32 and is exact; it lies outside DVC because it can always be computed again.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualvla import files, progress
from dualvla.models import vlm as vlms
from dualvla.models.processing import Processor

CACHE = Path(".cache/features")
BATCH = 64


def encode_images(
    vlm: vlms.Vlm, processor: Processor, images: Sequence[bytes], *, cache: Path = CACHE
) -> Tensor:
    """Vision tower output (N, V, Dv) float32 of encoded pictures, from the cache where it is."""
    path = cache / f"{_key(vlm, processor, images)}.safetensors"
    if path.is_file():
        return load_file(path)["encoded"]
    vlm.eval()
    device = next(vlm.parameters()).device
    starts = range(0, len(images), BATCH)
    parts = []
    with torch.no_grad():
        for start in progress.track(starts, len(starts), "vision features"):
            pixels = processor.images(images[start : start + BATCH])
            pixels = pixels.to(device, memory_format=torch.channels_last)
            parts.append(vlms.encode(vlm, pixels).float().cpu())
    encoded = torch.cat(parts)
    with files.replacing(path) as beside:
        save_file({"encoded": encoded.contiguous()}, beside)
    return encoded


def vision_features(model: Path, images: Sequence[bytes]) -> np.ndarray:
    """One vector a picture, (N, D) float32: all tokens of the vision tower, side by side.

    Args:
        model: folder of the base VLM.
        images: encoded pictures.

    Raises:
        UserError: no such model, or a picture that cannot be decoded.
    """
    vlm, processor = vlms.load(model), Processor.load(model)
    encoded = encode_images(vlm, processor, images)
    return encoded.flatten(1).numpy()


def _key(vlm: vlms.Vlm, processor: Processor, images: Sequence[bytes]) -> str:
    digest = hashlib.sha256(str(processor.to_json()).encode())
    module = vlms.tower(vlm) or vlm
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for image in images:
        digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()[:32]
