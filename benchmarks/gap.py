"""Ways to close the gap to the specialist trained on, tried one by one on `dualvla`'s recipe.

Last come settings of `decoupled`, which starts from the specialist.

Usage: python benchmarks/gap.py [VARIANT ...] [--run short-0] [--starts validation:24]
           [--tasks carrot ...] [--noise 0 1] [--against FOLDER ...] [--json FILE]
           > docs/benchmarks/gap.md

Run it in a workspace's folder, after the ablation's generalist of that run. Variants of one arm
start from the same model, see the same batches for as many steps, and all meet the same validation
starts, never those of the evaluation. Variants are trained into ablation/models/gap-RUN; one that
is there already is only evaluated. `--against` names trained models to compare with.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import resuming
import torch
from run_times import hardware
from torch import Tensor

from dualvla import config, files, paths, progress, runs
from dualvla.config import Distill, Params
from dualvla.data import conversations
from dualvla.evaluation import acting, protocol, simpler, statistics
from dualvla.models import inference, policy
from dualvla.models.features import encode_images
from dualvla.models.policy import VlaPolicy
from dualvla.simulation import rollouts
from dualvla.stages import distill
from dualvla.training import conflict, loop, losses, policies, samples, teachers
from dualvla.training.losses import Batch
from dualvla.training.policies import Splits

Objective = Callable[[Batch], loop.Losses]
Teach = Callable[[Batch], teachers.Lesson]
CORRUPTED = 0.3  # share of frames that are shown another frame's text


@dataclasses.dataclass(frozen=True)
class Variant:
    """What one way changes: settings, data, or the loss."""

    what: str
    arm: config.Arm = "dualvla"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: Callable[[Splits], Splits] = lambda splits: splits
    compute: Callable[[VlaPolicy, Objective, Distill, Teach], Objective] = (
        lambda model, objective, settings, teach: objective
    )


def projected(
    model: VlaPolicy, objective: Objective, settings: Distill, teach: Teach, *, stop: bool = False
) -> Objective:
    """Take out of the language gradient on the decoder what opposes the actions', or all (`stop`).

    The gradient is changed by a linear term whose value is 0 and whose gradient is the correction.
    """

    def compute(batch: Batch) -> loop.Losses:
        found = objective(batch)
        if not torch.is_grad_enabled():
            return found
        shared = conflict.trunk(model)
        words = found["language"] * settings.language_weight
        if "kd_language" in found:
            words = words + settings.weight * found["kd_language"]
        language = gradient(words, shared)
        if stop:
            corrections = [-g for g in language]
        else:
            moves = gradient(found["loss"] - words, shared)
            against = sum(float((a * b).sum()) for a, b in zip(language, moves, strict=True))
            size = sum(float(g.square().sum()) for g in moves)
            corrections = [-min(0.0, against / size) * g for g in moves]
        term = sum(((c * p).sum() for c, p in zip(corrections, shared, strict=True)), start=0.0)
        assert isinstance(term, Tensor)
        return found | {"loss": found["loss"] + term - term.detach()}

    return compute


def gradient(loss: Tensor, parameters: list[torch.nn.Parameter]) -> tuple[Tensor, ...]:
    """Gradient of a loss by parameter; zeros where it does not depend on one."""
    return torch.autograd.grad(
        loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def both_inputs(
    model: VlaPolicy, objective: Objective, settings: Distill, teach: Teach
) -> Objective:
    """The action teacher's and the data's actions also on the same frames without their text."""

    def compute(batch: Batch) -> loop.Losses:
        found = objective(batch)
        if batch.plain is None:
            return found
        bare = dataclasses.replace(
            batch, encoded=batch.encoded[: batch.robots], sequences=batch.plain
        )
        outputs = losses.run(model, bare)
        lesson = dataclasses.replace(teach(batch), logits=None)
        taught = teachers.distillation(outputs, bare, lesson, settings)["kd"]
        extra = losses.flow(outputs, bare) + settings.weight * taught
        return found | {"loss": found["loss"] + extra}

    return compute


def corrupted(splits: Splits) -> Splits:
    """Another frame's text, of which nothing is to be learned, in front of a share of the actions.

    Questions and the frames that keep their own text teach language as ever.
    """
    mixer = splits.train
    assert mixer.robot is not None
    told = mixer.processor.reasoning(None)
    speaking = [i for i, answer in enumerate(mixer.robot.answers) if answer != told]
    return dataclasses.replace(splits, train=_Corrupting(mixer, speaking))  # type: ignore[arg-type]


class _Corrupting:
    """A mixer whose robot rows with a text get a wrong one at the rate `CORRUPTED`."""

    def __init__(self, mixer: samples.Mixer, speaking: list[int]) -> None:
        self.mixer, self.speaking = mixer, speaking

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mixer, name)

    def __call__(self, step: int) -> Batch:
        batch = self.mixer(step)
        robot = self.mixer.robot
        assert robot is not None
        draw = np.random.default_rng([self.mixer.seed, step])
        rows = batch.index[: batch.robots].tolist()
        questions = batch.index[batch.robots :].tolist()
        asked = self.mixer.questions
        prompts = [robot.prompts[i] for i in rows]
        answers = [robot.answers[i] for i in rows]
        silent = self.mixer.processor.reasoning(None)
        wrong = [answer != silent and draw.random() < CORRUPTED for answer in answers]
        others = draw.choice(self.speaking, len(rows))
        answers = [
            robot.answers[other] if bad else answer
            for answer, bad, other in zip(answers, wrong, others, strict=True)
        ]
        if asked is not None:
            prompts += [asked.prompts[i] for i in questions]
            answers += [asked.answers[i] for i in questions]
        sequences = self.mixer.processor.pad(prompts, answers)
        sequences.labels[: len(rows)][torch.tensor(wrong)] = -100
        return dataclasses.replace(batch, sequences=sequences)


VARIANTS = {
    "dualvla": Variant("the recipe as it is"),
    "lambda_1": Variant("teachers weigh 1 instead of 0.15", settings={"weight": 1.0}),
    "language_0.3": Variant("language loss weighs 0.3", settings={"language_weight": 0.3}),
    "projected": Variant("conflicting language gradient projected off", compute=projected),
    "insulated": Variant(
        "no language gradient reaches the decoder",
        compute=lambda m, o, s, t: projected(m, o, s, t, stop=True),
    ),
    "corrupted": Variant(f"a wrong text at {CORRUPTED:.0%} of the texts", data=corrupted),
    "both_inputs": Variant("actions with and without the text", compute=both_inputs),
    "decoupled": Variant("two streams", "decoupled"),
    "decoupled_slow": Variant(
        "two streams, 0.4 of the learning rate", "decoupled", {"learning_rate": 2e-4}
    ),
}


def train(name: str, params: Params, run: str) -> Path:
    """Train a variant from a run's generalist, unless it is there."""
    variant, target = VARIANTS[name], f"gap-{run}"
    folder = paths.model(name, target)
    if folder.is_dir():
        return folder
    recipe = teachers.RECIPES[variant.arm]
    settings = distill.schedule(params, recipe).model_copy(update=variant.settings)
    changed = params.model_copy(update={"distill": settings})
    start = paths.model(recipe.start, run)
    speaker = distill.reasoning_teacher(params, recipe, run)
    sources = {"action": paths.model("specialist"), "reasoning": speaker}
    inputs = [*distill.DATA, paths.PRUNED, start, *sources.values()]
    model = policy.load(start)
    if recipe.streams:
        distill.decouple(model)
    pair, marks = distill.ask_for(changed, recipe, model, sources, [*distill.DATA, start])
    splits = distill.data(changed, recipe, settings, variant.arm, model)
    teach = policies.teaching(settings, pair, splits, marks)
    plain = policies.objective(model, settings.language_weight, (settings, teach))
    policies.train(
        name,
        model,
        settings,
        variant.data(splits),
        variant.compute(model, plain, settings, teach),
        resolved=config.resolved(changed, "seed", "distill", "mix", "prune") | {"variant": name},
        inputs=inputs,
        run=target,
    )
    return folder


def act(path: Path, params: Params, starts: dict[str, int], noise: list[int]) -> pd.DataFrame:
    """Episodes of a model, with a column `noise`: the seed of flow noise."""
    patch = {"starts": tuple(starts), "episodes_per_task": starts, "videos_per_task": 0}
    evaluate = params.evaluate.model_copy(update=patch)
    tables = []
    for seed in noise:
        chosen = protocol.nightly(evaluate, params.simulation)
        planned = protocol.resolve(chosen, params.simulation.assets, seed).planned
        jobs = [i.job for t in params.simulation.tasks for i in planned if i.job.task == t]
        ran = rollouts.run(
            jobs,
            acting.ModelPolicy(path, evaluate, seed),
            assets=params.simulation.assets,
            image_size=params.simulation.image_size,
            workers=params.simulation.workers,
            execute=evaluate.execute,
            retries=evaluate.retries,
        )
        tracked = progress.track(ran, len(jobs), f"{path.name} {seed}")
        outcome = simpler.collect(planned, tracked, evaluate.success_mode)
        tables.append(outcome.episodes.assign(noise=seed))
    return pd.concat(tables, ignore_index=True)


def ask(path: Path, limit: int) -> tuple[int, int]:
    """Held-out questions answered rightly, and how many were asked."""
    loaded = policy.load(path)
    asked = conversations.load(paths.MULTIMODAL, "heldout")[:limit]
    pictures = conversations.pictures(paths.MULTIMODAL)
    wanted = {c.image: pictures[c.image] for c in asked}
    encoded = encode_images(loaded.vlm, loaded.processor, list(wanted.values()))
    row = {name: i for i, name in enumerate(wanted)}
    given = inference.answer(
        loaded.vlm,
        loaded.processor,
        encoded[[row[c.image] for c in asked]],
        [c.question for c in asked],
    )
    right = [conversations.matches(g, c.answer) for g, c in zip(given, asked, strict=True)]
    return sum(right), len(right)


def row(path: Path, episodes: pd.DataFrame, questions: tuple[int, int], mode: str) -> dict:
    """Figures of one model."""
    ran = episodes[episodes["status"] == "ok"]
    key = ran[["starts", "task", "start_id", "noise"]].astype(str).agg(" ".join, axis=1)
    start = list(key.str.rpartition(" ")[0])
    found = statistics.rate(int(ran[mode].sum()), len(ran))
    table = statistics.by_start(start, ran[mode].to_numpy(float))
    low, high = statistics.wider(table, found["low"], found["high"])
    return {
        "model": path.name,
        "path": str(path),
        **found,
        "low": low,
        "high": high,
        "tokens_per_decision": float(ran["tokens"].sum() / ran["decisions"].sum()),
        "questions": statistics.rate(*questions),
        "outcomes": dict(zip(key, ran[mode].astype(int), strict=True)),
    }


def versus(one: dict, other: dict) -> str:
    """Paired difference in points, and McNemar's p."""
    both = sorted(one["outcomes"].keys() & other["outcomes"].keys())
    first, second = (np.array([r["outcomes"][k] for k in both], bool) for r in (one, other))
    starts = [key.rpartition(" ")[0] for key in both]
    difference, low, high = statistics.crossed_difference(
        *(statistics.by_start(starts, won.astype(float)) for won in (first, second))
    )
    p = statistics.mcnemar(int((first & ~second).sum()), int((~first & second).sum()))
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] (p = {p:.3f})"


def page(rows: list[dict], params: Params, commit: str, argv: str) -> str:
    """The figures as Markdown."""
    base = next((r for r in rows if r["model"] == "dualvla"), rows[0])
    lines = [
        "# Closing the gap",
        "",
        f"Commit {commit}; {hardware()}; profile `{params.profile}`, "
        f"{params.evaluate.success_mode} success, `{params.simulation.assets}` assets, "
        f"Wilson 95 % intervals; pairs of start and noise seed, McNemar's exact test, "
        "uncorrected. Intervals of rates and of differences are widened where starts return under "
        f"several noise seeds, p-values are not; `{argv}`.",
        "",
        f"| model | change | success [95 %] | n | against {base['model']}, points | held-out QA "
        "| tokens/decision |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        what = VARIANTS[one["model"]].what if one["path"].startswith("ablation/models/gap") else ""
        interval = f"[{100 * one['low']:.1f}, {100 * one['high']:.1f}]"
        asked = one["questions"]
        right = f"{100 * asked['rate']:.1f} (n = {asked['n']})" if asked["n"] else "-"
        lines.append(
            f"| {one['model']} | {what} | {100 * one['rate']:.1f} {interval} | {one['n']} "
            f"| {'-' if one is base else versus(one, base)} | {right} "
            f"| {one['tokens_per_decision']:.1f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Train what is missing, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "variants", nargs="*", metavar="VARIANT", help=f"default: all of {', '.join(VARIANTS)}"
    )
    parser.add_argument("--run", default="short-0")
    parser.add_argument("--starts", nargs="+", default=["validation:24"])
    parser.add_argument("--tasks", nargs="+", help="default: all")
    parser.add_argument("--noise", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--against", nargs="*", default=[], type=Path)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--commit", default="?", help="whose models these are")
    parser.add_argument("--json", type=Path, help="figures; models in it are not asked again")
    given = parser.parse_args()
    told = " ".join(["gap.py", *sys.argv[1:]])
    params = runs.resolve(config.load(), given.run)
    if given.tasks:
        simulation = params.simulation.model_copy(update={"tasks": tuple(given.tasks)})
        params = params.model_copy(update={"simulation": simulation})
    torch.set_num_threads(params.threads)
    starts = {name: int(count) for name, count in (s.split(":") for s in given.starts)}
    asked = {"tasks": params.simulation.tasks, "starts": starts, "noise": given.noise}
    asked |= {"run": given.run, "questions": given.questions} | resuming.settings(params)
    rows = {one["path"]: one for one in resuming.rows(given.json, asked)}
    names = given.variants or list(VARIANTS)
    with contextlib.redirect_stdout(sys.stderr):
        for path in [*(train(name, params, given.run) for name in names), *given.against]:
            weights = files.sha256(path)
            if rows.get(str(path), {}).get("weights") == weights:
                continue
            episodes, right = act(path, params, starts, given.noise), ask(path, given.questions)
            found = row(path, episodes, right, params.evaluate.success_mode)
            rows[str(path)] = found | {"weights": weights}
            resuming.keep(given.json, asked, list(rows.values()))
    sys.stdout.write(page(list(rows.values()), params, given.commit, told))


if __name__ == "__main__":
    main()
