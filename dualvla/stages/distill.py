"""Post-train a policy by one arm of the method -> models/<arm>.

Most arms start from the generalist: the specialist teaches actions on robot samples, a reasoning
model teaches language on questions. What an arm leaves out or does otherwise is in
`training.teachers.RECIPES`. Arms that start from the specialist train for the steps of generalist
and distillation in sum, so that all arms are equally far from the specialist.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dualvla import config, paths, progress
from dualvla.config import Distill, Params
from dualvla.errors import UserError
from dualvla.stages import runner

if TYPE_CHECKING:
    from dualvla.models.policy import VlaPolicy
    from dualvla.training.policies import Splits
    from dualvla.training.teachers import Pair, Recipe

DATA = (paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE)


def main(params: Params, arm: str, run: str | None = None) -> None:
    """Run the stage for one arm; `run` is one of the ablation's."""
    import pandas as pd
    import torch

    from dualvla.models import policy
    from dualvla.pruning import prune
    from dualvla.training import policies, sharding, teachers

    if arm not in get_args(config.Arm):
        raise UserError(f"no arm {arm}", where="--arm", fix=f"one of {get_args(config.Arm)}")
    torch.set_num_threads(params.threads)
    recipe = teachers.RECIPES[arm]  # type: ignore[index]
    settings = schedule(params, recipe)
    start = paths.model(recipe.start, run)
    speaker = reasoning_teacher(params, recipe, run)
    sources = {"action": paths.model("specialist"), "reasoning": speaker}
    inputs = needs(recipe, start, sources)
    require_run(arm, inputs, run)
    if recipe.streams:
        sharding.require_kept_activations(f"arm {arm}")
    if recipe.action_teacher:
        teachers.require_continuous(settings.targets)
    if recipe.rule != "none":
        verdicts = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
        prune.require_retention(verdicts, params.prune)
    model = policy.load(start)
    policy.require_shape(model, params.model, start)
    if recipe.streams:
        decouple(model)
    pair, marks = ask_for(params, recipe, model, sources, [*DATA, start])
    splits = data(params, recipe, settings, arm, model)
    teach = policies.teaching(settings, pair, splits, marks)
    del pair  # looked-up answers need no teacher beside the student
    sections = ("seed", "threads", "model", "generalist", "distill", "mix", "prune")
    policies.train(
        arm,
        model,
        settings,
        splits,
        policies.objective(model, settings.language_weight, (settings, teach)),
        resolved=config.resolved(params, *sections) | {"arm": arm},
        inputs=inputs,
        run=run,
    )


def schedule(params: Params, recipe: "Recipe") -> Distill:
    """How long and how fast an arm trains, and what its teachers weigh."""
    own = {} if recipe.weight is None else {"weight": recipe.weight}
    if recipe.start == "generalist":
        return params.distill.model_copy(update=own)
    first = params.generalist
    same = {name: getattr(first, name) for name in ("learning_rate", "batch_size", "warmup")}
    total = {"steps": first.steps + params.distill.steps}
    return params.distill.model_copy(update=same | total | own)


def reasoning_teacher(params: Params, recipe: "Recipe", run: str | None) -> Path:
    """Who teaches language: of two streams the model that the words start from."""
    name = "base_vlm" if recipe.streams else params.distill.reasoning_teacher
    return paths.model(name, run)


def decouple(model: "VlaPolicy") -> None:
    """Give a policy that acts the base model's weights for words; in place."""
    from dualvla.data import lerobot
    from dualvla.models import experts, policy

    words, _ = policy.start_from(paths.model("base_vlm"), model.config.shape)
    experts.decouple(model.vlm, words)
    commands = lerobot.open_dataset(paths.ANNOTATED).episodes["task"].unique()
    model.config = dataclasses.replace(
        model.config, reasons=True, streams=True, commands=tuple(sorted(commands))
    )


def data(
    params: Params, recipe: "Recipe", settings: Distill, arm: str, model: "VlaPolicy"
) -> "Splits":
    """What an arm is trained on.

    Raises:
        UserError: no frame keeps a text, in an arm that learns to reason.
    """
    import numpy as np
    import pandas as pd

    from dualvla.data import lerobot
    from dualvla.data import mixture as mixtures
    from dualvla.pruning import prune
    from dualvla.training import loop, policies

    mixture = pd.read_parquet(paths.MIXTURE / "mixture.parquet")
    robot = mixture[mixture["domain"] == "robot"]
    if not recipe.questions:
        dataset = lerobot.open_dataset(paths.ANNOTATED)
        # Those of the mixture: drawn by a run's own seed they would be what its specialist knows.
        held = (robot.groupby("episode_index")["split"].first() == "heldout").to_numpy()
        seed = loop.stage_seed(params.seed, "distill")
        return policies.plain_data(settings, seed, dataset, model, held)
    if not recipe.text:
        keep = np.zeros(len(robot), bool)
        return policies.mixed_data(params, settings, model, mixture, keep)
    verdicts = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
    mask = prune.keep_mask(verdicts, recipe.rule, params.seed)
    key = mixtures.kept(robot, verdicts, mask, keep_free_form=False)
    keep = mixtures.kept(robot, verdicts, mask, keep_free_form=params.prune.keep_free_form)
    mixtures.require_text(robot, keep, arm)
    progress.log(f"{arm}: {keep.mean():.1%} of robot frames keep their text ({recipe.rule})")
    return policies.mixed_data(params, settings, model, mixture, keep, key=key)


def ask_for(
    params: Params,
    recipe: "Recipe",
    student: "VlaPolicy",
    sources: Mapping[str, Path],
    inputs: Sequence[Path],
) -> tuple["Pair", dict[str, str]]:
    """The teachers of an arm, frozen, and the fingerprints under which their answers are kept.

    Args:
        params: the seed.
        recipe: which teachers the arm has.
        student: what they are compared with.
        sources: folders of the teachers by role.
        inputs: all that an answer depends on, beside the teacher.

    Raises:
        UserError: a teacher that cannot teach this student, or kept answers of another one.
    """
    from dualvla.models import policy
    from dualvla.training import checkpoints, lessons, loop, sharding, teachers

    found, marks = {}, {}
    if recipe.action_teacher:
        found["action"] = policy.load(sources["action"])
    if recipe.reasoning_teacher:
        spoken = sources["reasoning"]
        base = spoken.name == "base_vlm"
        # The base model is no policy: it speaks with the body of one, which is not asked to act.
        found["reasoning"] = policy.load(sources["action"] if base else spoken)
        if base:
            vlm, processor = policy.start_from(spoken, params.model)
            found["reasoning"].vlm, found["reasoning"].processor = vlm, processor
    for role, teacher in found.items():
        path = sources[role]
        teacher.eval().requires_grad_(False).to(sharding.device())
        teachers.require_alike(student, teacher, str(path))
        values = config.resolved(params, "seed", "threads")
        values |= {"role": role, "precision": loop.precision()}
        marks[role] = checkpoints.fingerprint(values, [*inputs, path])
        lessons.require_own(marks[role])
    return teachers.Pair(found.get("action"), found.get("reasoning")), marks


def needs(recipe: "Recipe", start: Path, sources: Mapping[str, Path]) -> list[Path]:
    """Folders that an arm reads, so that whatever changes in them makes it another arm."""
    wanted = {
        paths.PRUNED: recipe.text,
        start: True,
        sources["action"]: recipe.action_teacher,
        sources["reasoning"]: recipe.reasoning_teacher,
    }
    return [*DATA, *(path for path, read in wanted.items() if read)]


def require_run(arm: str, inputs: Sequence[Path], run: str | None) -> None:
    """Raise a `UserError` naming the first input that is missing, and its stage."""
    for path in inputs:
        if not path.is_dir():
            stage = {"mixture": "mix", "pruned": "prune"}.get(path.name, path.name)
            own = run is not None and run in path.parts
            target = f"ablation/dvc.yaml:{stage}@{run}" if own else stage
            what = f"arm {arm} needs the stage {stage}, which has not run"
            raise UserError(what, where=str(path), fix=f"run it: dvc repro {target}")


if __name__ == "__main__":
    runner.run(main, "arm", trains=True, ablated=True)
