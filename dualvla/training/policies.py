"""Training a policy: specialist, generalist and the arms of distillation share these few steps."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dualvla import conventions, files, paths, progress
from dualvla.config import Distill, Optimisation, Params
from dualvla.data import conversations, lerobot
from dualvla.errors import UserError
from dualvla.models import lora
from dualvla.models import policy as policies
from dualvla.models.features import encode_images
from dualvla.models.policy import VlaPolicy
from dualvla.models.processing import Processor
from dualvla.training import (
    calibration,
    checkpoints,
    conflict,
    environment,
    lessons,
    loop,
    losses,
    samples,
    sharding,
    streams,
    teachers,
)
from dualvla.training.losses import Batch
from dualvla.training.samples import Mixer, QuestionSamples, RobotSamples
from dualvla.training.teachers import Lesson, Pair

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

HELDOUT_BATCHES = 4


@dataclass(frozen=True)
class Splits:
    """Batch builders of training and held-out data."""

    train: Mixer
    heldout: Mixer


def specialist_data(
    params: Params, dataset: lerobot.Dataset, model: VlaPolicy, held: np.ndarray
) -> Splits:
    """Robot frames with the plain instruction and no text; `held` marks held-out episodes."""
    seed = loop.stage_seed(params.seed, "specialist")
    return plain_data(params.specialist, seed, dataset, model, held)


def plain_data(
    settings: Optimisation,
    seed: int,
    dataset: lerobot.Dataset,
    model: VlaPolicy,
    held: np.ndarray,
) -> Splits:
    """`specialist_data` with other settings."""
    processor = model.processor
    robot = _robot(dataset, model, _plain_prompts(dataset, processor))
    rows = np.concatenate([np.full(len(dataset.rows(e)), held[e]) for e in range(len(held))])

    def mixer(split: str, chosen: "NDArray[np.int64]") -> Mixer:
        part = _select(robot, chosen)
        return Mixer(processor, settings.batch_size, 0.0, seed, part, split=split)

    return Splits(mixer("train", np.flatnonzero(~rows)), mixer("heldout", np.flatnonzero(rows)))


def _plain_prompts(dataset: lerobot.Dataset, processor: Processor) -> list[list[int]]:
    prompts = [processor.robot_prompt(command) for command in dataset.episodes["task"]]
    return [prompt for e, prompt in enumerate(prompts) for _ in dataset.rows(e)]


def _robot(
    dataset: lerobot.Dataset,
    model: VlaPolicy,
    prompts: list[list[int]],
    answers: list[list[int]] | None = None,
) -> RobotSamples:
    where = f"model and {dataset.root}"
    conventions.require_same(model.config.convention, dataset.convention, where=where)
    statistics, processor = model.config.statistics, model.processor
    with sharding.main_first():
        encoded = encode_images(model.vlm, processor, dataset.images())
    return RobotSamples(
        encoded=encoded,
        actions=samples.action_chunks(dataset, statistics, model.config.shape.chunk),
        state=samples.normalised_state(dataset.column(lerobot.STATE), statistics),
        prompts=prompts,
        plain=_plain_prompts(dataset, processor),
        answers=answers or [processor.reasoning(None)] * len(prompts),
        labelled=answers is not None,
    )


def _select(robot: RobotSamples, rows: "NDArray[np.int64]") -> RobotSamples:
    chosen: list[int] = rows.tolist()
    return RobotSamples(
        robot.encoded[rows],
        robot.actions[rows],
        robot.state[rows],
        [robot.prompts[i] for i in chosen],
        [robot.plain[i] for i in chosen],
        [robot.answers[i] for i in chosen],
        robot.labelled,
        None if robot.streams is None else robot.streams.select(rows),
        None if robot.streams is None else robot.encoded[robot.streams.seen[rows]],
    )


def mixed_data(
    params: Params,
    settings: Optimisation,
    model: VlaPolicy,
    mixture: "pd.DataFrame",
    keep: np.ndarray | None = None,
    *,
    key: np.ndarray | None = None,
) -> Splits:
    """Robot frames with reasoning and questions, as the mixture says.

    Args:
        params: shares and seed.
        settings: batch size.
        model: gives processor, statistics and the frozen tower.
        mixture: `data.mixture` index.
        keep: per robot row of the mixture, whether its text stays; None keeps all of it.
        key: per robot row, whether it is an event, for a policy with two streams.
    """
    processor = model.processor
    dataset = lerobot.open_dataset(paths.ANNOTATED)
    robot_rows = mixture[mixture["domain"] == "robot"].reset_index(drop=True)
    kept = np.ones(len(robot_rows), bool) if keep is None else keep
    post = isinstance(settings, Distill)
    order = loop.stage_seed(params.seed, "distill" if post else "generalist")
    texts = [
        text if stays and isinstance(text, str) and text else None
        for text, stays in zip(robot_rows["reasoning"], kept, strict=True)
    ]
    robot = _robot(
        dataset,
        model,
        [processor.robot_prompt(c) for c in robot_rows["command"]],
        # Without any text there is no choice between thinking and acting to learn.
        [processor.reasoning(text) for text in texts] if kept.any() else None,
    )
    if model.config.streams:
        assert key is not None
        robot = dataclasses.replace(
            robot,
            streams=streams.plan(
                processor,
                robot.prompts,
                texts,
                robot_rows["episode_index"].tolist(),
                key=key,
                free=(robot_rows["kind"] != "plain").to_numpy(),
                seed=params.seed,
            ),
        )
    asked = mixture[mixture["domain"] == "multimodal"].reset_index(drop=True)
    questions = _questions(model, dataset, robot, asked)

    def mixer(split: str) -> Mixer:
        chosen = np.flatnonzero((robot_rows["split"] == split).to_numpy())
        about = np.flatnonzero((asked["split"] == split).to_numpy())
        part = QuestionSamples(
            questions.encoded,
            questions.picture[about],
            [questions.prompts[int(i)] for i in about],
            [questions.answers[int(i)] for i in about],
        )
        share = params.mix.multimodal_share if len(about) else 0.0
        return Mixer(
            processor,
            settings.batch_size,
            share,
            order,
            _select(robot, chosen),
            part,
            draws=settings.draws if isinstance(settings, Distill) else None,
            split=split,
        )

    return Splits(mixer("train"), mixer("heldout"))


def _questions(
    model: VlaPolicy, dataset: lerobot.Dataset, robot: RobotSamples, asked: "pd.DataFrame"
) -> QuestionSamples:
    pictures = conversations.pictures(paths.MULTIMODAL)
    with sharding.main_first():
        encoded = encode_images(model.vlm, model.processor, list(pictures.values()))
    place = {name: i for i, name in enumerate(pictures)}
    # Questions about an episode are asked of one of its frames; all frames follow the pictures.
    first = [len(pictures) + dataset.rows(e).start for e in range(len(dataset.episodes))]
    rows = [
        place[image] if isinstance(image, str) else first[episode] + frame
        for image, episode, frame in zip(
            asked["image"], asked["episode_index"], asked["frame_index"], strict=True
        )
    ]
    return QuestionSamples(
        torch.cat([encoded, robot.encoded]),
        np.array(rows, np.int64),
        [model.processor.question_prompt(q) for q in asked["command"]],
        [model.processor.answer(a) for a in asked["reasoning"]],
    )


def objective(
    model: VlaPolicy,
    language_weight: float,
    distill: tuple[Distill, Callable[[Batch], Lesson]] | None = None,
) -> Callable[[Batch], loop.Losses]:
    """Loss of a batch: L_VLA, and lambda L_KD of what the teachers say about it."""

    def compute(batch: Batch) -> loop.Losses:
        outputs = losses.run(model, batch)
        flow, language = losses.flow(outputs, batch), losses.language(outputs)
        result = {"loss": flow + language_weight * language, "flow": flow, "language": language}
        if distill is not None:
            settings, teach = distill
            parts = teachers.distillation(outputs, batch, teach(batch), settings)
            result["loss"] = result["loss"] + settings.weight * parts["kd"]
            result |= parts
        return result

    return compute


def teaching(
    settings: Distill, pair: Pair, data: Splits, marks: Mapping[str, str]
) -> Callable[[Batch], Lesson]:
    """How a run asks its teachers: looked up, or on the fly.

    Args:
        settings: targets, steps, and whether answers are kept.
        pair: the teachers.
        data: all batches the run will ask about.
        marks: fingerprints, see `lessons.prepare`.
    """
    if not settings.cache:
        return lambda batch: teachers.ask(pair, batch, settings.targets)
    robot = data.heldout.robot
    steps = HELDOUT_BATCHES if robot is not None and robot.prompts else 0
    runs = {"train": (data.train, settings.steps), "heldout": (data.heldout, steps)}
    return lessons.prepare(pair, settings.targets, marks, runs)


def train(
    name: str,
    model: VlaPolicy,
    settings: Optimisation,
    data: Splits,
    compute: Callable[[Batch], loop.Losses],
    *,
    resolved: dict[str, Any],
    inputs: Sequence[Path],
    run: str | None = None,
) -> None:
    """Run the loop and write models/<name>, or the ablation's of a `run`, with metrics.json.

    Raises:
        UserError: there is nothing to train on.
    """
    assert data.train.robot is not None
    folder, name = paths.model(name, run), paths.label(name, run)
    if not data.train.robot.prompts:
        raise UserError("no training frames", where=name, fix="record more demonstrations")
    rank = model.config.shape.lora_rank
    adapters = lora.adapt(model, rank, data.train.seed) if rank else None
    progress.log(f"{name}: {policies.describe(model)}, {len(data.train.robot.prompts)} frames")

    def heldout() -> list[Batch]:
        if data.heldout.robot is None or not data.heldout.robot.prompts:
            return []
        return [data.heldout(step) for step in range(HELDOUT_BATCHES)]

    mark = checkpoints.fingerprint(resolved, inputs)
    both = data.train.questions is not None  # there are two losses to compare
    probe = conflict.probe(model) if both else None
    work = loop.Run(name, data.train, compute, heldout, checkpoints.folder(name, mark), probe)
    metrics = loop.fit(model, work, settings)
    metrics["conflict"] = metrics.pop("probes", [])
    if adapters is not None:
        lora.merge(adapters)
    # Share of training frames that carry reasoning: what is left of it after pruning.
    silent = model.processor.reasoning(None)
    metrics["text_share"] = float(np.mean([a != silent for a in data.train.robot.answers]))
    if sharding.rank():
        return  # process 0 writes
    if model.config.reasons:
        with loop.autocast():
            found = calibration.offsets(model, map(sharding.placed, heldout()))
        model.config = dataclasses.replace(model.config, offsets=found)
    with files.replacing(folder) as out:
        out.mkdir(parents=True)
        model.write(out, resolved=resolved, environment=environment.fingerprint())
        files.write_json(out / "metrics.json", metrics)
    shown = ", ".join(f"{k} {v:.4f}" for k, v in metrics["heldout"].items())
    progress.log(f"{name}: held-out {shown or 'set is empty'} -> {folder}")
