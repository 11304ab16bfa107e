"""Stage evaluate: a model in closed loop on the fixed starts -> results/evaluate/MODEL."""

from dualvla import paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner


def main(params: Params, model: str, run: str | None = None) -> None:
    """Roll a model out by the protocol of params.yaml; `run` is one of the ablation's.

    Raises:
        UserError: a model that is not in evaluate.models, is not trained, or does not act.
    """
    require_listed(params, model)
    path = paths.model(model, run)
    if not path.is_dir():
        raise UserError(f"no model {model}", where=str(path), fix="train it first: dvc repro")

    import torch

    from dualvla.evaluation import evaluator, opened, protocol, simpler

    torch.set_num_threads(params.threads)  # more would fight with the simulation for the cores
    settings, simulation, name = params.evaluate, params.simulation, paths.label(model, run)
    resolved = protocol.resolve(
        protocol.nightly(settings, simulation),
        simulation.assets,
        params.seed,
        videos=settings.videos_per_task,
    )
    work = evaluator.Work(
        partial=paths.EVALUATING / name,
        timing=paths.DECISIONS / f"{name}.json",
        workers=simulation.workers,
        retries=settings.retries,
        name=model,
    )
    out = paths.results(paths.EVALUATION, model, run)
    policy = opened.checkpoint(
        path,
        params.seed,
        actions=settings.execute,
        reason=settings.reason,
        reason_every=settings.reason_every,
    )
    summary = evaluator.evaluate(policy, resolved, out, work)
    quality.gate("metrics", out, params=params, subject=f"evaluate/{name}")
    for row in summary["rates"]:
        progress.log(simpler.line(row))


def require_listed(params: Params, model: str) -> None:
    """Raise a `UserError` unless the model is one of evaluate.models."""
    if model not in params.evaluate.models:
        known = ", ".join(params.evaluate.models)
        raise UserError(f"{model} is not in evaluate.models", where="params.yaml", fix=known)


if __name__ == "__main__":
    runner.run(main, "model", ablated=True)
