"""The base vision-language model: dense vision pre-training, then questions.

Two runs of the one loop. The first teaches the tiny tower where things are, the second freezes it
and teaches the decoder to answer. A real checkpoint (`model.vlm` other than `tiny`) is loaded
instead and only learns the special tokens' meaning later, in the policy's own training.
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from dualvla import progress
from dualvla.config import Params
from dualvla.data import conversations
from dualvla.errors import UserError
from dualvla.models import pretrained, vision, vlm
from dualvla.models.features import encode_images
from dualvla.models.inference import answer
from dualvla.models.processing import Processor, train_tokenizer
from dualvla.training import checkpoints, dense, loop, packing, sharding
from dualvla.training.loop import Losses, Run
from dualvla.training.packing import Packed

VISION_BATCH = 16


def build(params: Params, texts: list[str]) -> tuple[vlm.Vlm, Processor]:
    """The model to train and its processor: tiny from scratch, or a named checkpoint."""
    if params.model.vlm != "tiny":
        return pretrained.prepare(params.model.vlm, params.simulation.image_size)
    torch.manual_seed(params.seed)
    tokenizer = train_tokenizer(texts)
    processor = Processor(tokenizer, params.simulation.image_size, vision.NUM_TOKENS)
    model = vlm.tiny(params.model, params.simulation.image_size, processor)
    vlm.count_in_waves(model, processor)
    return model, processor


def train_vision(
    model: vlm.Vlm, processor: Processor, params: Params, data: Path, mark: str
) -> dict[str, Any]:
    """Dense pre-training of the tiny tower; metrics with held-out errors."""
    table, pictures = conversations.labels(data), conversations.pictures(data)
    split = dict(zip(table["image"], table["split"], strict=True))
    names = {s: [n for n in pictures if split.get(n) == s] for s in ("train", "heldout")}
    if not names["train"] or not names["heldout"]:
        raise UserError("no labelled pictures of both splits", where=str(data))
    wanted = {s: dense.labels(table, names[s]) for s in names}
    pixels = {s: processor.pixels([pictures[n] for n in names[s]]) for s in names}
    tower = vlm.tower(model)
    if not isinstance(tower, vision.SlotVisionModel):
        raise UserError("dense pre-training needs the tiny vision tower", where="model.vlm")
    tower.to(memory_format=torch.channels_last)  # type: ignore

    def batch(step: int) -> tuple[torch.Tensor, dense.DenseLabels]:
        rows = loop.sample(params.seed, step, VISION_BATCH, len(names["train"]))
        seen = processor.normalise(pixels["train"][rows])
        return dense.jitter(seen, params.seed, step), dense.rows(wanted["train"], rows)

    def losses(made: tuple[torch.Tensor, dense.DenseLabels]) -> Losses:
        return dense.losses(tower, *made)

    run = Run(
        name="base_vlm (vision)",
        batch=batch,
        losses=losses,
        heldout=list,
        checkpoint=checkpoints.folder("base_vlm_vision", mark),
    )
    settings = params.base_vlm
    metrics = loop.fit(
        tower, run, settings, steps=settings.vision_steps, peak=settings.vision_learning_rate
    )
    shown = processor.normalise(pixels["heldout"])
    metrics["heldout"] = dense.errors(tower, shown, wanted["heldout"])
    return metrics


def train_language(
    model: vlm.Vlm, processor: Processor, params: Params, data: Path, mark: str
) -> dict[str, Any]:
    """Question answering with a frozen tower; metrics with held-out exact match."""
    pictures = conversations.pictures(data)
    names = list(pictures)
    with sharding.main_first():
        encoded = encode_images(model, processor, list(pictures.values()))
    tower = vlm.tower(model)
    if tower is not None:
        tower.requires_grad_(False)
    asked = conversations.load(data, "train")
    size = params.base_vlm.batch_size
    packs = packing.pack(processor, encoded, names, asked, size=size, seed=params.seed)

    def losses(batch: Packed) -> Losses:
        embeddings = vlm.embed(model, batch.input_ids, vlm.project(model, batch.encoded))
        hidden = vlm.read(model, embeddings, batch.mask, batch.positions, processor.picture)
        logits, tokens = vlm.answer_logits(model, hidden, batch.labels)
        return {"loss": sharding.weighted(F.cross_entropy(logits, tokens), len(tokens))}

    run = Run(
        name="base_vlm (questions)",
        batch=packs,
        losses=losses,
        heldout=list,
        checkpoint=checkpoints.folder("base_vlm", mark),
    )
    metrics = loop.fit(model, run, params.base_vlm)
    heldout = conversations.load(data, "heldout")
    row = {name: i for i, name in enumerate(names)}
    shown = encoded[[row[c.image] for c in heldout]].to(sharding.device())
    given = answer(model, processor, shown, [c.question for c in heldout])
    right = sum(conversations.matches(a, c.answer) for a, c in zip(given, heldout, strict=True))
    metrics["heldout"] = {"qa_k": right, "qa_n": len(heldout), "qa_rate": right / len(heldout)}
    progress.log(f"base_vlm: held-out questions {right} of {len(heldout)} exact")
    return metrics
