"""Dual-teacher distillation: the specialist teaches actions, a reasoning model teaches language.

The domain chooses the teacher. On a robot sample the action teacher sees picture and command alone,
the student also its reasoning; the paper's KL over discrete action tokens becomes, for a flow
policy, the squared difference of the two velocities at the same noise and time (a KL between equal
Gaussians up to a constant), plus the distance of the latent actions in units of the teacher's own
spread: without that scale the loss is near zero while the signal is lost. On a multimodal sample
the reasoning teacher's answer distribution is matched by a temperature-scaled KL. (DualVLA, dual
teacher adaptive distillation; L = L_VLA + lambda L_KD, lambda = 0.15.)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dualvla.config import Arm, Distill
from dualvla.models.policy import VlaPolicy
from dualvla.pruning.prune import Rule
from dualvla.training import losses
from dualvla.training.losses import Batch, Outputs

SPREAD_FLOOR = 1e-3  # of the latent's variance


@dataclass(frozen=True)
class Recipe:
    """What an arm keeps of the method."""

    rule: Rule  # which frames keep their reasoning: a rule of pruning.prune.keep_mask
    action_teacher: bool
    reasoning_teacher: bool
    start: Literal["generalist", "specialist"] = "generalist"  # from the specialist: no text at all
    questions: bool = True  # whether multimodal data is mixed in


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
    "specialist_ft": Recipe("none", False, False, start="specialist", questions=False),
    "qa_only": Recipe("none", False, False, start="specialist"),
}


def token_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits (M, vocabulary), averaged over the M tokens."""
    if not len(student):
        return student.new_zeros(())
    log_student = F.log_softmax(student / temperature, -1)
    log_teacher = F.log_softmax(teacher / temperature, -1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def latent_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of latents (R, Q, D) in units of the teacher's variance over R."""
    if len(teacher) < 2:
        return student.new_zeros(())
    spread = teacher.float().var(0, unbiased=False).clamp_min(SPREAD_FLOOR)
    return ((student.float() - teacher.float()).square() / spread).mean()


def distillation(
    student: Outputs,
    batch: Batch,
    *,
    action_teacher: VlaPolicy | None,
    reasoning_teacher: VlaPolicy | None,
    settings: Distill,
) -> dict[str, Tensor]:
    """L_KD and its parts; a teacher that is None adds nothing."""
    total = student.velocity.new_zeros(())
    parts: dict[str, Tensor] = {}
    if action_teacher is not None and batch.plain is not None:
        with torch.no_grad():
            teacher = losses.run(action_teacher, batch, batch.plain)
        parts["kd_velocity"] = F.mse_loss(student.velocity, teacher.velocity)
        parts["kd_latent"] = latent_distance(student.latents, teacher.latents)
        total = total + settings.velocity_weight * parts["kd_velocity"]
        total = total + settings.latent_weight * parts["kd_latent"]
    if reasoning_teacher is not None:
        asked = student.logits[student.rows >= batch.robots]
        with torch.no_grad():
            answers = losses.answers(reasoning_teacher, batch) if len(asked) else asked
        parts["kd_language"] = token_kl(asked, answers, settings.temperature)
        total = total + parts["kd_language"]
    return {"kd": total, **parts}
