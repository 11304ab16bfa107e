"""Losses of the base task: language cross-entropy and flow matching."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dualvla.models import vlm as vlms
from dualvla.models.action_expert import flow_time, interpolate
from dualvla.models.policy import VlaPolicy
from dualvla.models.processing import Sequences
from dualvla.training import sharding

NOISE_SAMPLES = 2  # flow-matching draws per hidden state: the expert is cheap, the decoder is not


@dataclass(frozen=True)
class Batch:
    """Robot rows first, then multimodal rows; a tensor has a row for each, or for each robot."""

    encoded: Tensor  # (B, V, Dv)
    sequences: Sequences  # (B, T)
    robots: int  # the first `robots` rows have actions
    actions: Tensor  # (robots, H, 7) normalised targets
    state: Tensor  # (robots, 7) normalised
    noise: Tensor  # (robots, N, H, 7)
    time: Tensor  # (robots, N) flow time in [0, 0.999]
    plain: Sequences | None = None  # (robots, T') prompts without reasoning, for the action teacher


@dataclass(frozen=True)
class Outputs:
    """What a policy computes on a batch."""

    logits: Tensor  # (M, vocabulary) at answer positions, in row order
    tokens: Tensor  # (M,)
    rows: Tensor  # (M,) row of the batch each position belongs to
    latents: Tensor  # (robots, Q, D)
    velocity: Tensor  # (robots, N, H, 7)


def draw(
    actions: Tensor, generator: torch.Generator, samples: int = NOISE_SAMPLES
) -> tuple[Tensor, Tensor]:
    """Noise (R, N, H, 7) and flow time (R, N) for chunks (R, H, 7)."""
    rows = len(actions)
    noise = torch.randn(rows, samples, *actions.shape[1:], generator=generator)
    return noise, flow_time(torch.rand(rows, samples, generator=generator))


def run(policy: VlaPolicy, batch: Batch, sequences: Sequences | None = None) -> Outputs:
    """Run a policy on a batch, or on its robot rows with other `sequences`."""
    robots = batch.robots
    inputs = batch.sequences if sequences is None else sequences
    encoded = batch.encoded if sequences is None else batch.encoded[:robots]
    hidden, latents = policy(encoded, inputs)
    logits, tokens = vlms.answer_logits(policy.vlm, hidden, inputs.labels)
    rows = (inputs.labels[:, 1:] != -100).nonzero()[:, 0]
    context = policy.expert.context(latents[:robots], encoded[:robots], batch.state)
    point, _ = interpolate(batch.noise, batch.actions[:, None], batch.time)
    velocity = policy.expert.velocity(context, point, batch.time)
    return Outputs(logits, tokens, rows, latents[:robots], velocity)


def answers(policy: VlaPolicy, batch: Batch) -> Tensor:
    """Logits (M, vocabulary) at the answer positions of the multimodal rows alone."""
    rows = slice(batch.robots, None)
    inputs = batch.sequences
    part = Sequences(inputs.input_ids[rows], inputs.attention_mask[rows], inputs.labels[rows])
    hidden, _ = policy(batch.encoded[rows], part)
    return vlms.answer_logits(policy.vlm, hidden, part.labels)[0]


def flow(outputs: Outputs, batch: Batch) -> Tensor:
    """Mean squared error of the velocity (InstructVLA's flow matching)."""
    _, target = interpolate(batch.noise, batch.actions[:, None], batch.time)
    error = F.mse_loss(outputs.velocity, target.expand_as(outputs.velocity))
    return sharding.weighted(error, len(outputs.velocity))


def language(outputs: Outputs) -> Tensor:
    """Cross-entropy averaged over answer tokens; 0 where there are none."""
    if not sharding.total(len(outputs.tokens), outputs.velocity.device):
        return outputs.velocity.new_zeros(())
    return sharding.weighted(F.cross_entropy(outputs.logits, outputs.tokens), len(outputs.tokens))
