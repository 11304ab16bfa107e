"""What a trained model makes of a picture: its encoding, an answer, a wish to write, a chunk.

Plain functions without a memory, for stages that look at single frames. What lasts over an episode
(the text in force, the noise of each decision) is `evaluation.acting`'s; it lies there and not here
so that changing how a policy is run does not make trained models stale.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dualvla.models import generation, policy
from dualvla.models import vlm as vlms
from dualvla.models.processing import Processor

QUESTION_BATCH = 64


def prefers_text(model: policy.VlaPolicy, logits: Tensor, *, held: bool = False) -> Tensor:
    """Whether a model would rather think than act, (...), from next-token logits (..., V).

    Args:
        model: its offsets say what odds that takes (`training.calibration`).
        logits: behind the command.
        held: whether a text is in force already.
    """
    processor = model.processor
    odds = logits[..., processor.think_id] - logits[..., processor.act_id]
    return odds > model.config.offsets[held]


def chunks(
    model: policy.VlaPolicy, encoded: Tensor, latents: Tensor, state: Tensor, noise: Tensor
) -> Tensor:
    """Normalised chunks (B, H, 7) that the expert makes of noise (B, H, 7).

    Args:
        model: the policy.
        encoded: vision tower output (B, V, Dv).
        latents: hidden states of the action queries (B, Q, D).
        state: (B, 7) normalised, on any device.
        noise: on any device.
    """
    device = model.queries.device
    context = model.expert.context(latents, encoded, state.to(device))
    return model.expert.sample(context, noise.to(device), model.config.shape.flow_steps)


def encode(model: policy.VlaPolicy, pictures: Sequence[bytes | np.ndarray]) -> Tensor:
    """Vision tower output (B, V, Dv) float32 of pictures, on the model's device."""
    device = model.queries.device
    pixels = model.processor.images(pictures).to(device, memory_format=torch.channels_last)
    return vlms.encode(model.vlm, pixels).float()


@torch.inference_mode()
def answer(
    vlm: vlms.Vlm, processor: Processor, encoded: Tensor, questions: Sequence[str]
) -> list[str]:
    """Greedy answers to questions about pictures (B, V, Dv)."""
    answers: list[str] = []
    for at in range(0, len(questions), QUESTION_BATCH):
        part = slice(at, at + QUESTION_BATCH)
        prompts = [processor.question_prompt(q) for q in questions[part]]
        prefix = generation.start(vlm, processor, encoded[part], prompts)
        active = torch.ones(len(prompts), dtype=torch.bool, device=encoded.device)
        written = generation.greedy(vlm, prefix, processor.eos_id, active)
        answers += [processor.decode(tokens) for tokens in written]
    return answers
