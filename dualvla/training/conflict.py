"""Gradient conflict: do the action loss and the language loss pull the shared decoder apart?

A probe beside training, not a part of it: it computes both losses of the step's batch once more and
differentiates each alone. That costs a forward and two backward passes at a few steps, and leaves
the parameters' own gradients and the random numbers as they were, so that a run with a probe ends
with the same weights as one without. Token embeddings are left out: they double as the language
head, which the action loss never meets.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dualvla.models import vlm as vlms
from dualvla.models.policy import VlaPolicy
from dualvla.training import losses
from dualvla.training.losses import Batch

Figures = dict[str, float | None]


def probe(model: VlaPolicy) -> Callable[[Batch], Figures]:
    """A probe of batches for `loop.Run`.

    It returns `cosine` in [-1, 1] of the two gradients, None where one is zero, and their norms
    `flow_norm` and `language_norm`; the losses are taken without their weights.
    """

    def compare(batch: Batch) -> Figures:
        shared = trunk(model)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            outputs = losses.run(model, batch)
            flow = _gradient(losses.flow(outputs, batch), shared)
            language = _gradient(losses.language(outputs), shared)
        norms = [math.sqrt(float(_dot(one, one))) for one in (flow, language)]
        cosine = float(_dot(flow, language)) / (norms[0] * norms[1]) if all(norms) else None
        return {"cosine": cosine, "flow_norm": norms[0], "language_norm": norms[1]}

    return compare


def trunk(model: VlaPolicy) -> list[nn.Parameter]:
    """Trained parameters of the decoder without its token embeddings."""
    words = model.vlm.get_input_embeddings().weight
    found = vlms.decoder(model.vlm).parameters()
    return [p for p in found if p.requires_grad and p is not words]


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    """Gradient of a loss by parameter; zeros where it does not depend on one."""
    if not loss.requires_grad:  # a batch without answers has no language loss
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(
        loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    parts = [(a * b).sum(dtype=torch.float64) for a, b in zip(first, second, strict=True)]
    return torch.stack(parts).sum()
