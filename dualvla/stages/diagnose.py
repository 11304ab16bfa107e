"""Stage diagnose: a model's actions on held-out frames after several texts -> results/diagnose."""

from typing import TYPE_CHECKING

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


def main(params: Params, model: str) -> None:
    """Run the stage for one model; write frames.parquet and summary.json.

    Raises:
        UserError: the model is not trained, or too little data is held out.
    """
    path = paths.model(model)
    if not path.is_dir():
        raise UserError(f"no model {model}", where=str(path), fix="train it first: dvc repro")

    import pandas as pd
    import torch

    from dualvla.data import lerobot
    from dualvla.evaluation import diagnosis
    from dualvla.models import policy

    torch.set_num_threads(params.threads)
    mixture = pd.read_parquet(paths.MIXTURE / "mixture.parquet")
    robot = mixture[mixture["domain"] == "robot"]
    chosen = diagnosis.choose(robot, params.diagnose.frames, params.seed)
    chosen["kept"] = kept(params, model, chosen)
    loaded = policy.load(path).to("cuda" if torch.cuda.is_available() else "cpu")
    dataset = lerobot.open_dataset(paths.ANNOTATED)
    frames = diagnosis.read(loaded, dataset, chosen, params.seed)
    found = diagnosis.table(loaded, frames, chosen, params.evaluate.execute)
    head = {"schema": SCHEMA, "model": model, "execute": params.evaluate.execute}
    measured = diagnosis.summary(found, params.seed)
    summary = head | measured
    with files.replacing(paths.DIAGNOSIS / model) as out:
        out.mkdir(parents=True)
        found.to_parquet(out / "frames.parquet", index=False)
        files.write_json(out / "summary.json", summary)
        if summary["subtask"] is not None:  # a model without text has errors, but no rates
            quality.gate("metrics", out, params=params, subject=f"diagnose/{model}")
    shown = {k: v["error"] for k, v in measured["errors"]["all"].items() if v is not None}
    text = ", ".join(f"{name} {error:.4f}" for name, error in shown.items())
    progress.log(f"{model}: action error on {summary['frames']} held-out frames by text: {text}")


def kept(params: Params, model: str, chosen: "pd.DataFrame") -> "pd.Series[bool] | bool":
    """Which chosen frames' text the model was trained to write; all, unless it is an arm."""
    import pandas as pd

    from dualvla.data import mixture as mixtures
    from dualvla.pruning import prune
    from dualvla.training import teachers

    recipe = {str(arm): recipe for arm, recipe in teachers.RECIPES.items()}.get(model)
    if recipe is None:
        return True
    verdicts = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
    mask = prune.keep_mask(verdicts, recipe.rule, params.seed)
    free_form = params.prune.keep_free_form
    return pd.Series(mixtures.kept(chosen, verdicts, mask, keep_free_form=free_form))


if __name__ == "__main__":
    runner.run(main, "model")
