"""A policy small enough to build in a test, real in every part."""

import numpy as np
import torch

from dualvla import config, conventions
from dualvla.models import vision, vlm
from dualvla.models.actions import ActionStatistics
from dualvla.models.policy import PolicyConfig, VlaPolicy
from dualvla.models.processing import Processor, train_tokenizer

TEXTS = [
    "robot: put carrot on plate",
    "what colour is the carrot?",
    "orange",
    "subtask: grasp the carrot ; move: down ; carrot at 34 60",
]
IMAGE_SIZE = 32


def params() -> config.Params:
    """Default parameters with a tiny model and a few steps."""
    patch = {
        "simulation": {"image_size": IMAGE_SIZE},
        "model": {"width": 16, "layers": 1, "heads": 2, "queries": 2, "chunk": 4}
        | {"expert_width": 16, "expert_layers": 1, "flow_steps": 2},
        "specialist": {"steps": 4, "batch_size": 4, "checkpoint_every": 1},
        "evaluate": {"execute": 2},
    }
    return config.parse(config.merge(config.read_yaml("params.yaml"), patch))


def processor() -> Processor:
    """Tokenizer of `TEXTS`."""
    return Processor(train_tokenizer(TEXTS, size=320), IMAGE_SIZE, vision.NUM_TOKENS)


def statistics() -> ActionStatistics:
    """Plausible ranges of target poses."""
    low, high = (0.1, -0.2, 0.0, -0.2, -0.2, -1.5), (0.5, 0.2, 0.3, 0.2, 0.2, 1.5)
    return ActionStatistics(low, high, max_translation=0.06, max_rotation=0.6)


def policy(seed: int = 0, *, reasons: bool = True, proprioception: bool = False) -> VlaPolicy:
    """An untrained policy."""
    torch.manual_seed(seed)
    shape = params().model.model_copy(update={"proprioception": proprioception})
    made = processor()
    settings = PolicyConfig(shape, statistics(), conventions.WIDOWX_SIMULATION, reasons)
    return VlaPolicy(vlm.tiny(shape, IMAGE_SIZE, made), made, settings).eval()


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Random pictures (32, 32, 3) uint8."""
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8) for _ in range(count)]
