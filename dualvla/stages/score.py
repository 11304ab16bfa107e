"""Stage score: the VLA Score of an evaluated model -> results/score/MODEL."""

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner
from dualvla.stages.evaluate import require_listed

SCHEMA = 1


def main(params: Params, model: str) -> None:
    """Rate every trajectory of results/evaluate/MODEL; write scores.parquet and summary.json.

    Raises:
        UserError: a model that is not in evaluate.models, or is not evaluated.
    """
    require_listed(params, model)

    import pandas as pd

    from dualvla.evaluation import judges, simpler, vla_score
    from dualvla.simulation.environments import TASKS

    source = paths.EVALUATION / model
    evaluated = files.read_json(source / "summary.json")
    for name in ("episodes.parquet", "steps.parquet"):
        if not (source / name).is_file():
            fix = f"run the stage evaluate@{model}"
            raise UserError("no such file", where=str(source / name), fix=fix)
    episodes = pd.read_parquet(source / "episodes.parquet")
    steps = pd.read_parquet(source / "steps.parquet")
    scale = vla_score.scale_of(model, evaluated["reason"])
    judge, mode = judges.JUDGES[params.score.judge], evaluated["success_mode"]
    ran = episodes[episodes["status"] == "ok"]
    groups = dict(iter(steps.groupby(simpler.KEY, sort=False)))
    rows = []
    for episode in ran.to_dict("records"):
        key = tuple(str(episode[name]) for name in simpler.KEY)
        spec = TASKS[key[1]]
        clip = judges.clip_of(groups[key], spec.source, spec.target)
        ratings = judge(clip, scale == "reasoning")
        rated = vla_score.row(ratings, bool(episode[mode]))
        rows.append(dict(zip(simpler.KEY, key, strict=True)) | rated)
    columns = [*simpler.KEY, *vla_score.COLUMN_TYPES]
    scores = pd.DataFrame(rows, columns=columns).astype(vla_score.COLUMN_TYPES)
    scores.insert(0, "model", model)
    summary = {
        "schema": SCHEMA,
        "model": model,
        "judge": params.score.judge,
        "scale": scale,
        "success_mode": mode,
        "errors": len(episodes) - len(ran),
        "tasks": {str(t): vla_score.summary(part) for t, part in scores.groupby("task")},
    }
    summary |= vla_score.summary(scores)
    with files.replacing(paths.SCORE / model) as out:
        out.mkdir()
        scores.to_parquet(out / "scores.parquet", index=False)
        files.write_json(out / "summary.json", summary)
        quality.gate("metrics", out, params=params, subject=f"score/{model}")
    value = "no trajectory" if summary["score"] is None else f"{summary['score']:.3f}"
    progress.log(f"VLA Score of {model} ({scale} scale): {value}, n = {summary['n']}")


if __name__ == "__main__":
    runner.run(main, "model")
