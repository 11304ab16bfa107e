"""The one training loop: base VLM, specialist, generalist and distillation.

Batches, noise and learning rate are pure functions of (seed, step), so a run that is killed and
started again ends with the same weights, bit for bit on a CPU. `accelerate` places the model,
computes in bf16 where the hardware has it and, where it launched several processes, averages their
gradients: each computes its share of every batch (`sharding`), and the losses are those of one
process. The losses run inside one wrapped module, because they call parts of the model that no
single `forward` covers.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dualvla import progress
from dualvla.config import Optimisation
from dualvla.errors import UserError
from dualvla.training import checkpoints, sharding

Losses = dict[str, Tensor]  # "loss" is minimised; the others are logged
LOG_POINTS = 50  # points of the stored training curve
PROBES = 10  # steps of a run that are probed


@dataclass(frozen=True)
class Run:
    """What is particular to one training run."""

    name: str
    batch: Callable[[int], Any]  # step -> batch, pure
    losses: Callable[[Any], Losses]
    heldout: Callable[[], Iterable[Any]]  # batches of held-out data, after the last step
    checkpoint: Path
    # Figures of a batch that are of interest, but not trained on; it must leave no trace. It is
    # asked in a single process only: of a sharded model none holds all gradients.
    probe: Callable[[Any], dict[str, float | None]] | None = None


def sample(seed: int, step: int, size: int, total: int) -> np.ndarray:
    """Indices (size,) of a batch: consecutive pieces of one permutation an epoch."""
    positions = step * size + np.arange(size)
    out = np.empty(size, np.int64)
    for epoch in np.unique(positions // total):
        order = np.random.default_rng([seed, int(epoch), total]).permutation(total)
        here = positions // total == epoch
        out[here] = order[positions[here] % total]
    return out


def stage_seed(seed: int, stage: str) -> int:
    """Seed of a stage's order and noise, 32 bits: else each stage would begin with the same rows.

    Arms share the stage, so that they meet the same samples and find each other's lessons.
    """
    return int(np.random.SeedSequence([seed, zlib.crc32(stage.encode())]).generate_state(1)[0])


def generator(*key: int) -> torch.Generator:
    """Random numbers of one step or sample: a pure function of seed and place."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(state)


def learning_rate(step: int, settings: Optimisation, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine to a tenth of `peak`."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def precision() -> str:
    """`bf16` where the hardware computes in it, else `no`."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    flags = Path("/proc/cpuinfo")
    return "bf16" if flags.is_file() and "avx512_bf16" in flags.read_text() else "no"


def autocast() -> torch.autocast:
    """The precision that `fit` computes in, for what is computed outside of it."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, torch.bfloat16, enabled=precision() == "bf16")


class _Step(nn.Module):
    """Losses of a batch as the forward pass of one module: what is wrapped for many processes."""

    def __init__(self, model: nn.Module, losses: Callable[[Any], Losses]) -> None:
        super().__init__()
        self.model, self.losses = model, losses
        # What FSDP keeps in one piece, as transformers names it: the layers of this family.
        parts = list(model.modules())
        named = {n for part in parts for n in getattr(part, "_no_split_modules", None) or ()}
        self._no_split_modules = sorted(named & {type(part).__name__ for part in parts})

    def forward(self, batch: Any) -> Losses:
        losses = self.losses(batch)
        return {name: v if name == "loss" else v.detach() for name, v in losses.items()}


def fit(
    model: nn.Module,
    run: Run,
    settings: Optimisation,
    *,
    steps: int | None = None,
    peak: float | None = None,
) -> dict[str, Any]:
    """Train `model` in place, resuming where a killed run stopped.

    Args:
        model: parameters with `requires_grad` are trained.
        run: batches and losses.
        settings: steps, learning rate, clipping and so on.
        steps: instead of `settings.steps`.
        peak: instead of `settings.learning_rate`.

    Returns:
        Metrics: steps, the curve (about `LOG_POINTS` means of every loss), held-out figures, and
        what the probe found at up to `PROBES` evenly spaced steps.

    Raises:
        UserError: the loss is not finite, with the step; or a batch has fewer rows than there are
            processes.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    steps = settings.steps if steps is None else steps
    peak = settings.learning_rate if peak is None else peak
    accelerator = Accelerator(
        mixed_precision=precision(),
        cpu=not torch.cuda.is_available(),
        # A share of a batch may have no robot, or no question.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True)
    prepared, optimizer_ = accelerator.prepare(_Step(model, run.losses), optimizer)
    state = checkpoints.restore(run.checkpoint, model, optimizer) or {"step": 0, "curve": []}
    if state["step"]:
        progress.log(f"{run.name}: resumed at step {state['step']} of {steps}")
    stride = max(1, steps // LOG_POINTS)
    curve: list[dict[str, float]] = state["curve"]
    sums: dict[str, float] = state.get("sums", {})
    probes: list[dict[str, float | None]] = state.get("probes", [])
    model.train()
    note = {"loss": math.nan}
    probe = run.probe if sharding.world() == 1 else None
    for step in progress.track(
        range(state["step"], steps),
        steps - state["step"],
        run.name,
        note=lambda: f"loss {note['loss']:.4f}",
    ):
        for group in optimizer_.param_groups:
            group["lr"] = learning_rate(step, settings, steps, peak)
        batch = run.batch(step)
        if probe is not None and step % math.ceil(steps / PROBES) == 0:
            with accelerator.autocast():
                probes.append({"step": step, **probe(sharding.share(batch))})
        with accelerator.autocast():
            own = prepared(sharding.share(batch))
        losses = sharding.reduced(own)
        note["loss"] = float(losses["loss"])
        if not math.isfinite(note["loss"]):
            fix = "lower the learning rate, or look for bad values in the data"
            raise UserError(f"{run.name}: the loss at step {step} is not finite", fix=fix)
        accelerator.backward(own["loss"])
        accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
        optimizer_.step()
        optimizer_.zero_grad()
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value)
        if (step + 1) % stride == 0:
            curve.append({"step": step + 1, **{k: v / stride for k, v in sums.items()}})
            sums = {}
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == steps:
            saved = {"step": step + 1, "curve": curve, "sums": sums, "probes": probes}
            checkpoints.save(run.checkpoint, model, optimizer, saved)
    model.eval()
    with torch.no_grad(), accelerator.autocast():
        heldout = mean([sharding.reduced(prepared(sharding.share(b))) for b in run.heldout()])
    sharding.unshard(prepared)
    metrics = {"schema": 1, "stage": run.name, "steps": steps, "curve": curve, "heldout": heldout}
    return metrics if run.probe is None else metrics | {"probes": probes}


def mean(values: list[Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean of every key over batches."""
    if not values:
        return {}
    return {k: float(torch.stack([v[k] for v in values]).mean()) for k in values[0]}
