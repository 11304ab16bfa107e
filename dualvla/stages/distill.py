"""Post-train the generalist with pruned reasoning and two teachers -> models/<arm>.

The specialist teaches actions on robot samples, a reasoning model teaches language on questions;
what an arm leaves out is in `training.teachers.RECIPES`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dualvla import config, paths, progress
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner

if TYPE_CHECKING:
    from dualvla.models.policy import VlaPolicy
    from dualvla.training.teachers import Pair, Recipe


def main(params: Params, arm: str) -> None:
    """Run the stage for one arm."""
    import pandas as pd
    import torch

    from dualvla.data import mixture as mixtures
    from dualvla.models import policy
    from dualvla.pruning import prune
    from dualvla.training import policies, teachers

    if arm not in get_args(config.Arm):
        raise UserError(f"no arm {arm}", where="--arm", fix=f"one of {get_args(config.Arm)}")
    torch.set_num_threads(params.threads)
    recipe, settings = teachers.RECIPES[arm], params.distill  # type: ignore[index]
    start = paths.model("generalist")
    data = [paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE]
    sources = [paths.model("specialist"), paths.model(settings.reasoning_teacher)]
    inputs = [*data, paths.PRUNED, start, *sources]
    require_run(arm, inputs)
    if recipe.action_teacher:
        teachers.require_continuous(settings.targets)
    mixture = pd.read_parquet(paths.MIXTURE / "mixture.parquet")
    verdicts = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
    if recipe.rule != "none":
        prune.require_retention(verdicts, params.prune)
    mask = prune.keep_mask(verdicts, recipe.rule, params.seed)
    robot = mixture[mixture["domain"] == "robot"]
    free_form = params.prune.keep_free_form
    keep = mixtures.kept(robot, verdicts, mask, keep_free_form=free_form)
    mixtures.require_text(robot, keep, arm)
    progress.log(f"{arm}: {keep.mean():.1%} of robot frames keep their text ({recipe.rule})")
    model = policy.load(start)
    policy.require_shape(model, params.model, start)
    pair, marks = ask_for(params, recipe, model, [*data, start])
    splits = policies.mixed_data(params, settings, model, mixture, keep)
    teach = policies.teaching(settings, pair, splits, marks)
    del pair  # looked-up answers need no teacher beside the student
    sections = ("seed", "threads", "model", "distill", "mix", "prune")
    policies.train(
        arm,
        model,
        settings,
        splits,
        policies.objective(model, settings.language_weight, (settings, teach)),
        resolved=config.resolved(params, *sections) | {"arm": arm},
        inputs=inputs,
    )


def ask_for(
    params: Params, recipe: "Recipe", student: "VlaPolicy", inputs: Sequence[Path]
) -> tuple["Pair", dict[str, str]]:
    """The teachers of an arm, frozen, and the fingerprints under which their answers are kept.

    Args:
        params: who teaches, and the seed.
        recipe: which teachers the arm has.
        student: what they are compared with.
        inputs: all that an answer depends on, beside the teacher.

    Raises:
        UserError: a teacher that cannot teach this student, or kept answers of another one.
    """
    from dualvla.models import policy
    from dualvla.training import checkpoints, lessons, loop, sharding, teachers

    found, marks = {}, {}
    if recipe.action_teacher:
        found["action"] = policy.load(paths.model("specialist"))
    if recipe.reasoning_teacher:
        found["reasoning"] = policy.load(paths.model("generalist"))
        if params.distill.reasoning_teacher == "base_vlm":
            vlm, processor = policy.start_from(paths.model("base_vlm"), params.model)
            found["reasoning"].vlm, found["reasoning"].processor = vlm, processor
    sources = {"action": "specialist", "reasoning": params.distill.reasoning_teacher}
    for role, teacher in found.items():
        path = paths.model(sources[role])
        teacher.eval().requires_grad_(False).to(sharding.device())
        teachers.require_alike(student, teacher, str(path))
        values = config.resolved(params, "seed", "threads")
        values |= {"role": role, "precision": loop.precision()}
        marks[role] = checkpoints.fingerprint(values, [*inputs, path])
        lessons.require_own(marks[role])
    return teachers.Pair(found.get("action"), found.get("reasoning")), marks


def require_run(arm: str, inputs: Sequence[Path]) -> None:
    """Raise a `UserError` naming the first input that is missing, and its stage."""
    for path in inputs:
        if not path.is_dir():
            stage = {"mixture": "mix", "pruned": "prune"}.get(path.name, path.name)
            what = f"arm {arm} needs the stage {stage}, which has not run"
            raise UserError(what, where=str(path), fix=f"run it: dvc repro {stage}")


if __name__ == "__main__":
    runner.run(main, "arm", trains=True)
