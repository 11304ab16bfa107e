"""Layer 1 of the pruning, learned: a small network that sees event boundaries in image features.

The paper retrains DDM-Net, a video event-boundary detector, on a small set of labelled episodes.
What makes DDM-Net work is kept: *dense difference maps*, the distance of every two frames of a
window around the frame in question, so that the network sees how before and after hang together
and not just one jump. What makes it heavy is left out: pictures are not encoded anew, the base
VLM's vision tower has seen them already, and the window is the simulation's few frames. The maps
are taken in several learned projections of the features, because most of a feature changes with
every move of the arm, and little of that is an event. The network reads differences alone: it
cannot learn where on the table things happen, which is what few labelled episodes would teach it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dualvla import files
from dualvla.errors import UserError
from dualvla.pruning.events import ROUNDING, peaks

FORMAT = 1
KIND = "dualvla_boundary_detector"

LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.2
WARMUP = 0.3  # share of steps
BATCH = 4  # episodes a step
# Deviations below this share of the mean deviation do not scale: they are noise.
LEAST_DEVIATION = 1e-2
SMOOTH = 1e-4  # under the root of a squared distance: its slope at 0 stays finite


@dataclass(frozen=True)
class Shape:
    """Sizes of a `Detector`."""

    features: int  # numbers a frame
    window: int  # frames on each side of a boundary
    maps: int = 8  # difference maps, each of a projection of its own
    depth: int = 8  # numbers a projection
    channels: int = 16  # of the convolutions over the maps
    hidden: int = 32
    input_dropout: float = 0.5
    dropout: float = 0.3


class Detector(nn.Module):
    """Image features of one or several episodes to a logit a frame."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.features))
        self.register_buffer("deviation", torch.ones(shape.features))
        self.project = nn.Linear(shape.features, shape.maps * shape.depth, bias=False)
        self.first = nn.Conv2d(shape.maps, shape.channels, 3, padding=1)
        self.second = nn.Conv2d(shape.channels, shape.channels, 3, padding=1)
        self.mix = nn.Linear(shape.channels * shape.window**2, shape.hidden)
        self.out = nn.Linear(shape.hidden, 1)
        self.drop_input = nn.Dropout(shape.input_dropout)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, features: Tensor, windows: Tensor) -> Tensor:
        """Logits (N,) of features (M, D), where `windows` (N, 2W) numbers the rows of each frame's.

        The first W rows of a window lie before the possible boundary, the others after it.
        """
        frames = self.project(self.drop_input((features - self.mean) / self.deviation))
        parts = frames[windows].unflatten(-1, (self.shape.maps, self.shape.depth))
        apart = parts[:, :, None] - parts[:, None]  # (N, 2W, 2W, maps, depth)
        maps = (apart.square().mean(-1) + SMOOTH).sqrt().permute(0, 3, 1, 2)
        seen = F.relu(self.second(F.relu(self.first(maps))))
        seen = self.drop(F.max_pool2d(seen, 2).flatten(1))
        logits: Tensor = self.out(self.drop(F.relu(self.mix(seen))))
        return logits[:, 0]


def train(
    episodes: Sequence[NDArray[np.floating]],
    boundaries: Sequence[NDArray[np.bool_]],
    *,
    window: int,
    steps: int,
    seed: int,
) -> Detector:
    """Train a detector on labelled episodes; the same arguments give the same weights.

    Args:
        episodes: (T, D) image features of each, at least one episode, in order of frames.
        boundaries: (T,) True where an event begins.
        window: frames on each side of a boundary.
        steps: optimiser steps.
        seed: of weights, batches and dropout.

    Returns:
        The detector, ready to score.
    """
    frames = np.concatenate([np.asarray(part, np.float32) for part in episodes])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Detector(Shape(features=frames.shape[1], window=window))
        deviation = frames.std(0)
        least = LEAST_DEVIATION * float(deviation.mean()) or 1.0
        model.mean.copy_(torch.from_numpy(frames.mean(0)))
        model.deviation.copy_(torch.from_numpy(np.maximum(deviation, least)))
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, steps, pct_start=WARMUP
        )
        rng = np.random.default_rng(seed)
        model.train()
        for _ in range(steps):
            chosen = rng.permutation(len(episodes))[:BATCH].tolist()
            features, windows = _batch([episodes[i] for i in chosen], window)
            labels = torch.from_numpy(np.concatenate([boundaries[i] for i in chosen]))
            loss = F.binary_cross_entropy_with_logits(model(features, windows), labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def boundary_scores(model: Detector, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability of a boundary at every frame of one episode.

    At the ends of the episode its first and last frame fill the window, also of an episode that is
    shorter than the window.

    Args:
        model: a detector.
        features: (N, D) one image feature a frame, in order.

    Returns:
        (N,) in [0, 1]; 0 at the first frame and wherever nothing changes within the window.

    Raises:
        UserError: features of another size than the detector was trained on.
    """
    if features.ndim != 2 or features.shape[1] != model.shape.features:
        what = f"image features {features.shape}, the detector reads {model.shape.features} a frame"
        raise UserError(what, where=KIND, fix="train the detector on features of the same base VLM")
    if len(features) < 2:
        return np.zeros(len(features))
    rows, windows = _batch([features], model.shape.window)
    with torch.no_grad():
        found = torch.sigmoid(model(rows, windows)).double().numpy()
    steps = np.linalg.norm(np.diff(np.asarray(features, np.float64), axis=0), axis=1)
    moved = steps > ROUNDING * float(np.linalg.norm(features, axis=1).mean())
    # Frames of a window rise, so that something changes within it if it does between its ends.
    before = np.concatenate([[0], np.cumsum(moved)])
    ends = windows.numpy()
    found[before[ends[:, -1]] == before[ends[:, 0]]] = 0
    found[0] = 0
    return found


def boundaries(
    scores: NDArray[np.floating], suppression: int, threshold: float
) -> NDArray[np.bool_]:
    """Frames (N,) whose score is the greatest within +-`suppression` and reaches the threshold."""
    return peaks(scores, suppression, 0.0) & (np.asarray(scores) >= threshold)


def save(model: Detector, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`; the same detector gives the same bytes."""
    folder.mkdir(parents=True)
    config = {"model_type": KIND, "format": FORMAT, "shape": asdict(model.shape)}
    files.write_json(folder / "config.json", config)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def load(folder: Path) -> Detector:
    """Read what `save` wrote, strictly.

    Raises:
        UserError: missing or damaged files, another format, or weights of another shape.
    """
    config: Any = files.read_json(folder / "config.json")
    fix = "run the prune stage with scene_layer: learned"
    known = isinstance(config, dict) and config.get("model_type") == KIND
    if not known or config.get("format") != FORMAT:
        where = str(folder / "config.json")
        raise UserError("not a boundary detector of this version", where=where, fix=fix)
    path = folder / "model.safetensors"
    try:
        model = Detector(Shape(**config["shape"]))
        model.load_state_dict(load_file(path), strict=True)
    except FileNotFoundError as error:
        raise UserError("no weights", where=str(path), fix=fix) from error
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"damaged or of another shape: {line}", where=str(path), fix=fix) from error
    return model.eval()


def _batch(episodes: Sequence[NDArray[np.floating]], window: int) -> tuple[Tensor, Tensor]:
    """Rows (M, D) of some episodes and the row numbers (M, 2W) of each frame's window."""
    around = np.arange(-window, window)
    parts, first = [], 0
    for episode in episodes:
        inside = np.clip(np.arange(len(episode))[:, None] + around, 0, len(episode) - 1)
        parts.append(first + inside)
        first += len(episode)
    rows = np.concatenate([np.asarray(episode, np.float32) for episode in episodes])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(parts))
