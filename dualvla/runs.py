"""Runs of the ablation: a budget and a seed, written `short-1`.

A run is the main graph's stages with other parameters and other folders. The stages therefore take
one option more, `--run`, and get the parameters that it stands for; nothing below them knows of the
ablation. The seed of a run is that of training (order, noise, random mask) and of the flow noise in
evaluation; data, pruning and starts are the same for all runs, so that episodes can be paired.
"""

from typing import TypeVar

from dualvla.config import UNTRAINED, Benchmark, Optimisation, Params
from dualvla.errors import UserError

Settings = TypeVar("Settings", bound=Optimisation)


def name(budget: str, seed: int) -> str:
    """Name of a run, as in commands and folders."""
    return f"{budget}-{seed}"


def names(params: Params) -> dict[str, list[str]]:
    """Names of all runs by budget, in report order."""
    ablation = params.ablation
    return {budget: [name(budget, s) for s in ablation.seeds] for budget in ablation.budgets}


def resolve(params: Params, run: str) -> Params:
    """The parameters of a run.

    Raises:
        UserError: no such budget or seed in `ablation`.
    """
    ablation = params.ablation
    budget, _, seed = run.rpartition("-")
    if budget not in (*ablation.budgets, UNTRAINED) or seed not in map(str, ablation.seeds):
        known = ", ".join(one for group in names(params).values() for one in group)
        raise UserError(f"no run {run}", where="--run", fix=f"one of {known}")
    factor = ablation.factors.get(budget, 1.0)
    own = {
        "models": ("specialist", *ablation.models),
        "starts": tuple(ablation.starts),
        "episodes_per_task": dict(ablation.starts),
        "videos_per_task": 0,
    }
    changed = {
        "seed": int(seed),
        "generalist": _scaled(params.generalist, factor),
        "distill": _scaled(params.distill, factor),
        "evaluate": params.evaluate.model_copy(update=own),
        "benchmark": Benchmark(questions=ablation.questions),
    }
    return params.model_copy(update=changed)


def _scaled(settings: Settings, factor: float) -> Settings:
    return settings.model_copy(update={"steps": max(1, round(factor * settings.steps))})
