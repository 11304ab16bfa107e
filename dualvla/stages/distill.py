"""Post-train the generalist with pruned reasoning and two teachers -> models/<arm>.

The specialist teaches actions on robot samples, a reasoning model teaches language on questions;
what an arm leaves out is in `training.teachers.RECIPES`. Two controls start from the specialist.
"""

from typing import get_args

from dualvla import config, paths, progress
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner


def main(params: Params, arm: str, run: str | None = None) -> None:
    """Run the stage for one arm; `run` is one of the ablation's."""
    import pandas as pd
    import torch

    from dualvla.data import mixture as mixtures
    from dualvla.models import policy
    from dualvla.pruning import prune
    from dualvla.training import policies, teachers

    if arm not in get_args(config.Arm):
        raise UserError(f"no arm {arm}", where="--arm", fix=f"one of {get_args(config.Arm)}")
    torch.set_num_threads(params.threads)
    recipe = teachers.RECIPES[arm]  # type: ignore[index]
    if recipe.start == "specialist":
        return control(params, arm, run)
    start, action_path = paths.model("generalist", run), paths.model("specialist")
    reasoning_path = paths.model(params.distill.reasoning_teacher, run)
    model, specialist = policy.load(start), policy.load(action_path)
    policy.require_shape(model, params.model, start)
    reasoner = policy.load(start)
    if params.distill.reasoning_teacher == "base_vlm":
        reasoner.vlm, _ = policy.start_from(reasoning_path, params.model)
    for teacher in (specialist, reasoner):
        teacher.eval().requires_grad_(False)
    mixture = pd.read_parquet(paths.MIXTURE / "mixture.parquet")
    verdicts = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
    mask = prune.keep_mask(verdicts, recipe.rule, params.seed)
    robot = mixture[mixture["domain"] == "robot"]
    free_form = params.prune.keep_free_form
    keep = mixtures.kept(robot, verdicts, mask, keep_free_form=free_form)
    progress.log(f"{arm}: {keep.mean():.1%} of robot frames keep their text ({recipe.rule})")
    sections = ("seed", "threads", "model", "distill", "mix", "prune")
    inputs = [paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE, paths.PRUNED]
    policies.train(
        arm,
        model,
        params.distill,
        policies.mixed_data(params, params.distill, model, mixture, keep),
        policies.objective(
            model, params.distill.language_weight, (params.distill, recipe, specialist, reasoner)
        ),
        resolved=config.resolved(params, *sections) | {"arm": arm},
        inputs=[*inputs, start, action_path, reasoning_path],
        run=run,
    )


def control(params: Params, arm: str, run: str | None = None) -> None:
    """Train the specialist on without reasoning text, for the steps of generalist and arm in sum.

    Frames and commands are those of the other arms, so that an arm differs in what is named alone.
    One schedule with the generalist's settings; no teachers.
    """
    import numpy as np
    import pandas as pd

    from dualvla.models import policy
    from dualvla.training import policies, teachers

    recipe = teachers.RECIPES[arm]  # type: ignore[index]
    start = paths.model("specialist")
    model = policy.load(start)
    policy.require_shape(model, params.model, start)
    settings = control_settings(params)
    mixture = pd.read_parquet(paths.MIXTURE / "mixture.parquet")
    if not recipe.questions:
        mixture = mixture[mixture["domain"] == "robot"]
    silent = np.zeros(int((mixture["domain"] == "robot").sum()), bool)
    sections = ("seed", "threads", "model", "generalist", "mix")
    policies.train(
        arm,
        model,
        settings,
        policies.mixed_data(params, settings, model, mixture, silent),
        policies.objective(model, settings.language_weight),
        resolved=config.resolved(params, *sections) | {"arm": arm, "steps": settings.steps},
        inputs=[paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE, start],
        run=run,
    )


def control_settings(params: Params) -> config.Generalist:
    """The generalist's optimisation with the steps of generalist and distillation in sum."""
    steps = params.generalist.steps + params.distill.steps
    return params.generalist.model_copy(update={"steps": steps})


if __name__ == "__main__":
    runner.run(main, "arm", ablated=True)
