"""Low-rank adapters on the decoder, instead of training all of it.

A real checkpoint's decoder is most of the policy and mostly right already: a low-rank change of its
attention and MLP projections holds a robot's data at a small part of the optimiser's memory. The
queries and the expert start from nothing and are trained whole; the embeddings, the head and the
projection of a picture stay as they are. When a stage is done the adapters are merged, so that
every later stage, and whoever loads the checkpoint, sees a plain model; what is given up is
adapters that could be taken off again. (InstructVLA, LoRA of rank 128 on the language model.)
"""

import torch
from peft import LoraConfig, LoraModel

from dualvla.errors import UserError
from dualvla.models import families
from dualvla.models import vlm as vlms
from dualvla.models.policy import VlaPolicy


def adapt(model: VlaPolicy, rank: int, seed: int) -> LoraModel:
    """Freeze the vision-language model of `model` and put adapters of `rank` on its decoder.

    Both are done in place. The model computes what it did, because one factor starts at zero; the
    scale is 1 (alpha = rank). Give the result to `merge` when training is done.

    Raises:
        UserError: the decoder has none of its family's projections.
    """
    projections = families.of(model.vlm.config).projections
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(projections))
    model.vlm.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return LoraModel(vlms.decoder(model.vlm), config, "default")
        except ValueError as error:
            raise UserError(
                f"the decoder has none of {', '.join(projections)}",
                where="model.lora_rank",
                fix="name its projections in dualvla/models/families.py, or set 0",
            ) from error


def merge(adapters: LoraModel) -> None:
    """Add the adapters to the weights they are on and take them off, in place."""
    adapters.merge_and_unload(safe_merge=True)
