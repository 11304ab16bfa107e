"""Why a model acts as it does: its actions on held-out frames after other texts than its own.

The same frames, noise and instructions every time; only the reasoning in the context differs: the
annotation, what the model writes itself, another frame's annotation, or none. A model that leans on
its text, right or wrong, acts well after the annotation and badly after another frame's. Nothing is
executed: the error is that of the first chunk, the demonstrator's own next steps its measure.

Frames of one episode resemble each other, so intervals come from drawing whole episodes again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.evaluation import statistics
from dualvla.evaluation.speech import claims
from dualvla.models import experts, generation, inference, policy, streams
from dualvla.models.policy import VlaPolicy
from dualvla.models.processing import Sequences
from dualvla.training import loop, samples

TEXTS = ("true", "generated", "shuffled", "none")
SUBSETS = ("all", "right", "wrong")  # by the subtask that the model itself names
BATCH = 32
DRAWS = 2000  # of the bootstrap
STREAM = 0x44494147  # apart from other random choices of the same seed


@dataclass(frozen=True)
class Frames:
    """What N frames show a model, and what the demonstrator did."""

    encoded: Tensor  # (N, V, Dv) on the model's device
    state: Tensor  # (N, 7) normalised
    actions: Tensor  # (N, H, 7) normalised
    noise: Tensor  # (N, H, 7)
    prompts: Sequence[list[int]]


def choose(robot: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most `count` held-out robot rows of a mixture, with the text of another one as `shuffled`.

    Raises:
        UserError: fewer than two frames are held out.
    """
    held = robot[robot["split"] == "heldout"]
    if len(held) < 2:
        fix = "record more demonstrations, or raise mix.heldout_share"
        raise UserError("fewer than two held-out frames", where="data/mixture", fix=fix)
    order = np.random.default_rng([seed, STREAM]).permutation(len(held))[:count]
    chosen = held.iloc[order].reset_index(drop=True)
    # In random order, the next row's text is that of any other frame.
    chosen["shuffled"] = np.roll(chosen["reasoning"].to_numpy(), 1)
    return chosen.sort_values(["episode_index", "frame_index"], ignore_index=True)


def read(model: VlaPolicy, dataset: lerobot.Dataset, chosen: pd.DataFrame, seed: int) -> Frames:
    """Pictures, states, actions and noise of chosen frames; noise depends on seed and frame."""
    rows = [
        dataset.rows(episode)[frame]
        for episode, frame in zip(chosen["episode_index"], chosen["frame_index"], strict=True)
    ]
    shape, stats = model.config.shape, model.config.statistics
    pictures = dataset.images(rows=rows)
    noise = [
        torch.randn(shape.chunk, policy.ACTION_DIM, generator=loop.generator(seed, row))
        for row in rows
    ]
    with torch.inference_mode():
        parts = [inference.encode(model, pictures[at : at + BATCH]) for at in _starts(rows)]
    return Frames(
        encoded=torch.cat(parts),
        state=samples.normalised_state(dataset.column(lerobot.STATE)[rows], stats),
        actions=samples.action_chunks(dataset, stats, shape.chunk)[rows],
        noise=torch.stack(noise),
        prompts=[model.processor.robot_prompt(command) for command in chosen["command"]],
    )


@torch.inference_mode()
def write(model: VlaPolicy, frames: Frames) -> tuple[list[str], NDArray[np.bool_]]:
    """The text that a model writes at each frame when it must, and whether it would have, (N,)."""
    vlm, processor = model.vlm, model.processor
    texts: list[str] = []
    willing: list[bool] = []
    for at in _starts(frames.prompts):
        part = slice(at, at + BATCH)
        prompts = list(frames.prompts[part])
        prefix = generation.start(vlm, processor, frames.encoded[part], prompts)
        asked = prefix
        if model.config.streams:
            asked = generation.start(vlm, processor, frames.encoded[part], prompts, acting=True)
            experts.set_route(vlm, False)
        willing += inference.prefers_text(model, asked.logits).tolist()
        every = torch.ones(len(prompts), dtype=torch.bool, device=prefix.mask.device)
        think = torch.full_like(every, processor.think_id, dtype=torch.long)
        generation.append(vlm, prefix, think, every)
        written = generation.greedy(vlm, prefix, processor.eos_id, every)
        texts += [processor.decode(tokens) for tokens in written]
    return texts, np.array(willing, bool)


@torch.inference_mode()
def errors(
    model: VlaPolicy, frames: Frames, texts: Sequence[str | None], execute: int
) -> NDArray[np.float64]:
    """Mean absolute error (N,) of the first `execute` actions of a chunk after each text.

    In units of the normalised action, in which the demonstrations span about [-1, 1]; all seven
    dimensions count alike. None is the decision to act without text.
    """
    found = []
    for at in _starts(texts):
        part = slice(at, at + BATCH)
        sequences = _sequences(model, frames.prompts[part], texts[part])
        _, latents = model(frames.encoded[part], sequences, frames.encoded[part])
        acted = inference.chunks(
            model, frames.encoded[part], latents, frames.state[part], frames.noise[part]
        )
        missed = (acted.cpu() - frames.actions[part])[:, :execute]
        found.append(missed.abs().double().mean((1, 2)))
    return torch.cat(found).numpy()


def _sequences(
    model: VlaPolicy, prompts: Sequence[list[int]], texts: Sequence[str | None]
) -> Sequences:
    """Commands with their texts, as the model reads them, where it computes."""
    processor = model.processor
    if model.config.streams:
        rows = [streams.action(processor, p, t) for p, t in zip(prompts, texts, strict=True)]
        padded = streams.pad(processor, rows)
    else:
        padded = processor.pad(prompts, [processor.reasoning(text) for text in texts])
    fields = (padded.input_ids, padded.attention_mask, padded.labels, padded.acting)
    device = model.queries.device
    return Sequences(*(None if f is None else f.to(device) for f in fields))  # type: ignore[arg-type]


def same_subtask(given: str, wanted: str) -> bool:
    """Whether two reasoning texts name the same subtask of the same things."""
    one, other = claims(given), claims(wanted)
    return bool(one.phases) and (one.phases, one.things) == (other.phases, other.things)


def table(model: VlaPolicy, frames: Frames, chosen: pd.DataFrame, execute: int) -> pd.DataFrame:
    """The chosen frames with `error_<text>`; of a model that reasons also its own text.

    Columns `generated`, `right` (its subtask is the annotation's) and `thinks` (it would write).
    """
    found = chosen.copy()
    given: dict[str, Sequence[str | None]] = {"none": [None] * len(chosen)}
    if model.config.reasons:
        found["generated"], found["thinks"] = write(model, frames)
        pairs = zip(found["generated"], found["reasoning"], strict=True)
        found["right"] = [same_subtask(own, wanted) for own, wanted in pairs]
        columns = {"true": "reasoning", "generated": "generated", "shuffled": "shuffled"}
        given |= {name: list(found[column]) for name, column in columns.items()}
    for name, texts in given.items():
        found[f"error_{name}"] = errors(model, frames, texts, execute)
    return found


def summary(found: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Figures of a `table` with the column `kept`: whether training left the frame its text.

    Returns:
        `errors` by subset of frames and text, `subtask` (share of right ones), and by kind of
        instruction `thinks` and `kept`. None is what the model has not, or a share of no frames.
    """
    reasons = "right" in found
    every = pd.Series(data=True, index=found.index)
    own = {"right": found["right"], "wrong": ~found["right"]} if reasons else {}
    plain = found["kind"] == "plain"
    kinds = {"plain": plain, "free_form": ~plain} if reasons else {}
    return {
        "frames": len(found),
        "episodes": int(found["episode_index"].nunique()),
        "errors": {
            subset: {text: _error(found[rows], text, seed) for text in TEXTS}
            for subset, rows in ({"all": every} | own).items()
        },
        "subtask": _rate(found, "right", seed) if reasons else None,
        "thinks": {kind: _rate(found[rows], "thinks", seed) for kind, rows in kinds.items()},
        "kept": {kind: _rate(found[rows], "kept", seed) for kind, rows in kinds.items()},
    }


def bootstrap(
    values: NDArray[np.float64], groups: NDArray[np.int64], seed: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Percentile interval of the mean of values (N,) over draws of whole groups (N,).

    None of fewer than two groups, which say nothing of how groups differ.
    """
    names, place = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    totals, counts = np.bincount(place, values), np.bincount(place)
    drawn = np.random.default_rng([seed, STREAM]).integers(len(names), size=(DRAWS, len(names)))
    means = totals[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def _error(found: pd.DataFrame, text: str, seed: int) -> dict[str, Any] | None:
    name = f"error_{text}"
    if name not in found or found.empty:
        return None
    values, groups = found[name].to_numpy(), found["episode_index"].to_numpy()
    low, high = bootstrap(values, groups, seed) or (None, None)
    counts = {"n": len(values), "episodes": len(np.unique(groups))}
    return {"error": float(values.mean()), "low": low, "high": high, **counts}


def _rate(found: pd.DataFrame, name: str, seed: int) -> dict[str, Any] | None:
    """Share of marked frames; its interval is the wider one of frames' and of episodes'."""
    if found.empty:
        return None
    marked, groups = found[name].to_numpy(np.float64), found["episode_index"].to_numpy()
    rate = statistics.rate(int(marked.sum()), len(marked))
    low, high = bootstrap(marked, groups, seed) or (rate["low"], rate["high"])
    return rate | {"low": min(low, rate["low"]), "high": max(high, rate["high"])}


def _starts(rows: Sequence[Any]) -> range:
    return range(0, len(rows), BATCH)
