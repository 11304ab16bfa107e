"""Stage evaluate: a model in closed loop on the fixed starts -> results/evaluate/MODEL."""

from typing import Any

from dualvla import conventions, files, paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner

SCHEMA = 1


def main(params: Params, model: str, run: str | None = None) -> None:
    """Roll a model out; write episodes.parquet, steps.parquet, summary.json and videos.

    `run` is one of the ablation's.

    Raises:
        UserError: a model that is not in evaluate.models, or is not trained.
    """
    require_listed(params, model)
    path = paths.model(model, run)
    if not path.is_dir():
        raise UserError(f"no model {model}", where=str(path), fix="train it first: dvc repro")

    import torch

    from dualvla.evaluation import simpler, videos
    from dualvla.evaluation.acting import ModelPolicy
    from dualvla.simulation import rollouts
    from dualvla.simulation.environments import TASKS

    torch.set_num_threads(params.threads)  # more would fight with the simulation for the cores
    evaluate, simulation = params.evaluate, params.simulation
    planned = simpler.plan(evaluate, simulation.tasks, params.seed)
    # A worker holds one task's scene: all starts of a task run in a row.
    jobs = [item.job for task in simulation.tasks for item in planned if item.job.task == task]
    trajectories = rollouts.run(
        jobs,
        ModelPolicy(path, evaluate, params.seed),
        assets=simulation.assets,
        image_size=simulation.image_size,
        workers=simulation.workers,
        execute=evaluate.execute,
        retries=evaluate.retries,
    )
    with files.replacing(paths.results(paths.EVALUATION, model, run)) as out:
        (out / "videos").mkdir(parents=True)

        def watch(item: simpler.Planned, trajectory: rollouts.Trajectory) -> None:
            if not trajectory.frames:
                return
            job = item.job
            videos.write(
                out / "videos" / f"{item.starts}-{job.task}-{job.start.id}.mp4",
                trajectory.frames,
                simpler.texts_in_force(trajectory, len(trajectory.frames)),
                job.start.instruction or TASKS[job.task].instruction,
                conventions.WIDOWX_SIMULATION.control_hz,
            )

        tracked = progress.track(trajectories, len(jobs), f"evaluate {paths.label(model, run)}")
        outcome = simpler.collect(planned, tracked, watch)
        outcome.episodes.insert(0, "model", model)
        outcome.steps.insert(0, "model", model)
        outcome.episodes.to_parquet(out / "episodes.parquet", index=False)
        outcome.steps.to_parquet(out / "steps.parquet", index=False)
        ran = {
            "schema": SCHEMA,
            "model": model,
            "assets": simulation.assets,
            "reason": evaluate.reason,
            "seed": params.seed,
            "execute": evaluate.execute,
            "convention": conventions.WIDOWX_SIMULATION.to_json(),
        }
        summary: dict[str, Any] = ran | simpler.summary(outcome, evaluate.success_mode)
        files.write_json(out / "summary.json", summary)
        quality.gate("metrics", out, params=params, subject=f"evaluate/{paths.label(model, run)}")
    for row in summary["rates"]:
        progress.log(_line(row))


def require_listed(params: Params, model: str) -> None:
    """Raise a `UserError` unless the model is one of evaluate.models."""
    if model not in params.evaluate.models:
        known = ", ".join(params.evaluate.models)
        raise UserError(f"{model} is not in evaluate.models", where="params.yaml", fix=known)


def _line(row: dict[str, Any]) -> str:
    share = "no episode" if row["rate"] is None else f"{row['rate']:6.1%}"
    interval = f"[{row['low']:.1%}, {row['high']:.1%}]"
    errors = f", {row['errors']} errors" if row["errors"] else ""
    return f"{row['starts']:10} {row['task']:9} {share} {interval} of {row['n']}{errors}"


if __name__ == "__main__":
    runner.run(main, "model", ablated=True)
