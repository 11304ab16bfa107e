"""Losses of the base task: language cross-entropy and flow matching."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from dualvla.models import vlm as vlms
from dualvla.models.action_expert import interpolate
from dualvla.models.policy import VlaPolicy
from dualvla.models.processing import Sequences
from dualvla.training import sharding


@dataclass(frozen=True)
class Batch:
    """Robot rows first, then questions: a row's domain decides which teacher it has.

    Robot rows `[:robots]` are the action teacher's, which reads `plain`; questions `[robots:]` are
    the reasoning teacher's. A tensor has a row for each, or for each robot.
    """

    encoded: Tensor  # (B, V, Dv)
    sequences: Sequences  # (B, T)
    robots: int  # the first `robots` rows have actions
    actions: Tensor  # (robots, H, 7) normalised targets
    state: Tensor  # (robots, 7) normalised
    noise: Tensor  # (robots, N, H, 7)
    time: Tensor  # (robots, N) flow time in [0, 0.999]
    plain: Sequences | None  # (robots, T') plain commands, no reasoning; None without robot rows
    remembered: Tensor | None  # (B, V, Dv) pictures that words in force are about
    split: str  # train | heldout: whose samples `index` counts
    index: Tensor  # (B,) place among that split's robot frames or questions
    draw: Tensor  # (robots,) which noise draw of its frame


@dataclass(frozen=True)
class Outputs:
    """What a policy computes on a batch."""

    logits: Tensor  # (M, vocabulary) at answer positions, in row order
    tokens: Tensor  # (M,)
    rows: Tensor  # (M,) row of the batch each position belongs to
    latents: Tensor  # (robots, Q, D)
    velocity: Tensor  # (robots, N, H, 7)


def run(policy: VlaPolicy, batch: Batch) -> Outputs:
    """Run a policy on a batch."""
    robots, inputs = batch.robots, batch.sequences
    hidden, latents = policy(batch.encoded, inputs, batch.remembered)
    logits, tokens = vlms.answer_logits(policy.vlm, hidden, inputs.labels)
    rows = (inputs.labels[:, 1:] != -100).nonzero()[:, 0]
    context = policy.expert.context(latents[:robots], batch.encoded[:robots], batch.state)
    velocity = policy.expert.velocity(context, noisy(batch), batch.time)
    return Outputs(logits, tokens, rows, latents[:robots], velocity)


def noisy(batch: Batch) -> Tensor:
    """Points (robots, N, H, 7) on the paths from noise to actions, at the batch's times."""
    return interpolate(batch.noise, batch.actions[:, None], batch.time)[0]


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
