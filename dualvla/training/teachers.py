"""Dual-teacher distillation: the specialist teaches actions, a reasoning model teaches language.

The domain chooses the teacher. On a robot sample the action teacher sees the picture and the
episode's plain command, the only words that it learned to act on; the student sees the sample's own
command, which may be a rewrite or a context, and its reasoning. Asked by the student's words the
specialist acts wrongly (docs/decisions/0016), and would teach that. The paper's KL over discrete
action tokens is `token_kl`; a flow policy has no such tokens, so that three targets stand in for
it, alone or together: `velocity`, the squared difference at the same noise and time (a KL between
equal Gaussians up to a constant); `latent`, the distance of the latent actions in units of the
teacher's own spread, without which the loss is near zero while the signal is lost; `chunk`, the
student's straight-line end point against the chunk that the teacher samples from the same noise. On
a question the reasoning teacher's answer distribution is matched by a temperature-scaled KL.
(DualVLA, dual teacher adaptive distillation; L = L_VLA + lambda L_KD, lambda = 0.15.)

What teachers say is apart from the loss that compares it, because it does not depend on the
student: `ask` says it on the fly, `training.lessons` looks it up.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dualvla.config import Arm, Distill, Targets
from dualvla.errors import UserError
from dualvla.models import vlm as vlms
from dualvla.models.policy import VlaPolicy
from dualvla.models.processing import Sequences
from dualvla.pruning.prune import Rule
from dualvla.training import losses, sharding
from dualvla.training.losses import Batch, Outputs

SPREAD_FLOOR = 1e-3  # of the latent's variance


@dataclass(frozen=True)
class Recipe:
    """What an arm keeps of the method."""

    rule: Rule  # which frames keep their reasoning: a rule of pruning.prune.keep_mask
    action_teacher: bool
    reasoning_teacher: bool
    start: Literal["generalist", "specialist"] = "generalist"
    text: bool = True  # whether it learns to reason
    questions: bool = True  # whether multimodal data is mixed in; without, plain commands alone
    streams: bool = False  # whether words and actions get weights of their own (models.experts)
    weight: float | None = None  # lambda, where it is not the parameters'


RECIPES: dict[Arm, Recipe] = {
    "dualvla": Recipe("both", True, True),
    "base_ft": Recipe("none", False, False),
    "prune_only": Recipe("both", False, False),
    "distill_only": Recipe("none", True, True),
    "random_mask": Recipe("random", True, True),
    "scene_only": Recipe("scene_only", True, True),
    "kinematic_only": Recipe("kinematic_only", True, True),
    "no_action_teacher": Recipe("both", False, True),
    "no_reasoning_teacher": Recipe("both", True, False),
    "specialist_ft": Recipe("none", False, False, start="specialist", text=False, questions=False),
    "qa_only": Recipe("none", False, False, start="specialist", text=False),
    "decoupled": Recipe("both", True, True, start="specialist", streams=True, weight=1.0),
}


def token_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits (M, vocabulary), averaged over the M tokens."""
    if not sharding.total(len(student), student.device):
        return student.new_zeros(())
    log_student = F.log_softmax(student / temperature, -1)
    log_teacher = F.log_softmax(teacher / temperature, -1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return sharding.weighted(divergence * temperature**2, len(student))


def latent_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of latents (R, Q, D) in units of the teacher's variance over R."""
    if sharding.total(len(teacher), teacher.device) < 2:
        return student.new_zeros(())
    spread = sharding.variance(teacher.float()).clamp_min(SPREAD_FLOOR)
    distance = ((student.float() - teacher.float()).square() / spread).mean()
    return sharding.weighted(distance, len(teacher))


@dataclass(frozen=True)
class Pair:
    """The two teachers; None for one that an arm leaves out."""

    action: VlaPolicy | None
    reasoning: VlaPolicy | None


@dataclass(frozen=True)
class Lesson:
    """What the teachers say about a batch; None where a teacher or a target is off.

    A process whose share of the batch has no row for a teacher has an answer of no rows.
    """

    latents: Tensor | None = None  # (robots, Q, D)
    velocity: Tensor | None = None  # (robots, N, H, 7)
    chunk: Tensor | None = None  # (robots, N, H, 7)
    logits: Tensor | None = None  # (M, vocabulary) at answer positions of the questions


@torch.no_grad()
def ask(pair: Pair, batch: Batch, targets: Targets) -> Lesson:
    """Ask the teachers about a batch: robot rows the one, questions the other."""
    latents, moves, logits = None, {}, None
    if pair.action is not None and batch.robots:
        latents = intent(pair.action, batch)
        moves = act(pair.action, latents, batch, targets)
    elif pair.action is not None:
        latents = batch.noise.new_zeros(0, *pair.action.queries.shape)
        chunk = pair.action.config.shape.chunk
        silent = batch.noise.new_zeros(0, batch.noise.shape[1], chunk, batch.noise.shape[-1])
        moves = {kind: silent for kind in ("velocity", "chunk") if getattr(targets, kind)}
    if pair.reasoning is not None:
        asked = len(batch.encoded) > batch.robots
        width = pair.reasoning.queries.shape[1]
        hidden = thought(pair.reasoning, batch)[0] if asked else batch.noise.new_zeros(0, width)
        logits = pair.reasoning.vlm.lm_head(hidden).float()
    return Lesson(latents if targets.latent else None, logits=logits, **moves)


def intent(teacher: VlaPolicy, batch: Batch) -> Tensor:
    """Latent actions (robots, Q, D) from picture and plain command, without reasoning."""
    assert batch.plain is not None
    latents: Tensor = teacher(batch.encoded[: batch.robots], batch.plain)[1]
    return latents


def act(teacher: VlaPolicy, latents: Tensor, batch: Batch, targets: Targets) -> dict[str, Tensor]:
    """The wanted ones of velocity and chunk (robots, N, H, 7), from latent actions."""
    said = {}
    context = teacher.expert.context(latents, batch.encoded[: batch.robots], batch.state)
    if targets.velocity:
        said["velocity"] = teacher.expert.velocity(context, losses.noisy(batch), batch.time)
    if targets.chunk:
        steps = teacher.config.shape.flow_steps
        said["chunk"] = teacher.expert.samples(context, batch.noise, steps)
    return said


def thought(teacher: VlaPolicy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Last hidden states (M, D) where the questions' answers are predicted, and how many a row."""
    asked, whole = slice(batch.robots, None), batch.sequences
    part = Sequences(whole.input_ids[asked], whole.attention_mask[asked], whole.labels[asked])
    wanted = part.labels[:, 1:] != -100
    hidden, _ = teacher(batch.encoded[asked], part)
    return hidden[:, :-1][wanted], wanted.sum(1)


def distillation(
    student: Outputs, batch: Batch, lesson: Lesson, settings: Distill
) -> dict[str, Tensor]:
    """L_KD and its parts; what a lesson lacks adds nothing."""
    total = student.velocity.new_zeros(())
    parts: dict[str, Tensor] = {}
    weights, robots = settings.targets, len(student.velocity)
    if lesson.velocity is not None:
        error = F.mse_loss(student.velocity, lesson.velocity)
        parts["kd_velocity"] = sharding.weighted(error, robots)
        total = total + weights.velocity * parts["kd_velocity"]
    if lesson.latents is not None:
        parts["kd_latent"] = latent_distance(student.latents, lesson.latents)
        total = total + weights.latent * parts["kd_latent"]
    if lesson.chunk is not None:
        error = F.mse_loss(end_point(student.velocity, batch), lesson.chunk)
        parts["kd_chunk"] = sharding.weighted(error, robots)
        total = total + weights.chunk * parts["kd_chunk"]
    if lesson.logits is not None:
        asked = student.logits[student.rows >= batch.robots]
        parts["kd_language"] = token_kl(asked, lesson.logits, settings.temperature)
        total = total + parts["kd_language"]
    return {"kd": total, **parts}


def end_point(velocity: Tensor, batch: Batch) -> Tensor:
    """Where a velocity leads in a straight line by t = 1: x_t + (1 - t) v, (robots, N, H, 7).

    Of a true velocity that is the action chunk, up to a thousandth of the noise (the flow's sigma).
    """
    return losses.noisy(batch) + (1 - batch.time[..., None, None]) * velocity


def require_continuous(targets: Targets) -> None:
    """Raise a `UserError` if `token_kl` is asked of a policy without action tokens."""
    if targets.token_kl:
        raise UserError(
            "token_kl compares action tokens, but the policy's actions are continuous (a flow)",
            where="distill.targets",
            fix="use velocity, latent or chunk",
        )


def require_alike(student: VlaPolicy, teacher: VlaPolicy, where: str) -> None:
    """Raise a `UserError` unless a teacher's outputs can be compared with the student's.

    Same chunk, queries and latent width; same action convention and statistics, or the same numbers
    would be other motions; same tokens; and the same vision tower, because both read one encoding
    of each picture.
    """
    ours, theirs = student.config, teacher.config
    pairs = {
        "chunk": (ours.shape.chunk, theirs.shape.chunk),
        "queries": (ours.shape.queries, theirs.shape.queries),
        "latent width": (student.queries.shape[1], teacher.queries.shape[1]),
        "proprioception": (ours.shape.proprioception, theirs.shape.proprioception),
        **_fields("action convention", ours.convention.to_json(), theirs.convention.to_json()),
        **_fields("action statistics", ours.statistics.to_json(), theirs.statistics.to_json()),
    }
    for name, (own, other) in pairs.items():
        if own != other:
            what = f"{name} of the teacher is {other}, of the student {own}"
            fix = "train both from the same data with the same parameters"
            raise UserError(what, where=where, fix=fix)
    if student.processor.tokenizer.get_vocab() != teacher.processor.tokenizer.get_vocab():
        fix = "start both from the same base model"
        raise UserError("teacher and student have other tokens", where=where, fix=fix)
    if not _same_weights(vlms.tower(student.vlm), vlms.tower(teacher.vlm)):
        fix = "start both from the same base model"
        raise UserError("teacher and student have other vision towers", where=where, fix=fix)


def _fields(what: str, ours: dict, theirs: dict) -> dict[str, tuple[object, object]]:
    return {f"{what} {key}": (ours[key], theirs.get(key)) for key in ours}


def _same_weights(one: torch.nn.Module | None, other: torch.nn.Module | None) -> bool:
    if one is None or other is None:
        return one is other
    mine, yours = one.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(
        mine[key].shape == yours[key].shape and torch.equal(mine[key], yours[key]) for key in mine
    )
