"""What two teachers cost a training step: none, both on the fly, both looked up.

Usage: python benchmarks/step_time.py [--profiles default] [--steps 60] [--json FILE]
           [--note TEXT] > docs/benchmarks/step-time.md

Untrained models of a profile's shape (`study` has that of `default`) on made-up frames and
questions, a batch as in training. The three variants take turns step by step, in an order that
changes, so that whatever else runs on the machine falls on all of them; the figure is the median,
of wall-clock and of CPU seconds. A step is what the loop does: batch, teachers, losses, backward
pass, clipping, optimiser.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from run_times import hardware

from dualvla import config, conventions, files
from dualvla.config import Params
from dualvla.models import vision, vlm
from dualvla.models.actions import ActionStatistics
from dualvla.models.policy import PolicyConfig, VlaPolicy
from dualvla.models.processing import Processor, train_tokenizer
from dualvla.training import loop, policies, samples, teachers
from dualvla.training.samples import Mixer

PLAIN, BOTH, LOOKED_UP = "plain fine-tuning", "both teachers on the fly", "both teachers looked up"
COMMANDS = ["put carrot on plate", "put the eggplant into the yellow basket, please"]
TEXT = (
    "subtask: lower over the carrot ; move: down, open gripper ; carrot at 34 60 ; plate at 55 71"
)
QUESTION, ANSWER = "what lies to the left of the green cube?", "the carrot"
FRAMES, ASKED = 1024, 512
WARM_UP = 3


def policy(params: Params, seed: int) -> VlaPolicy:
    """An untrained policy of the parameters' shape; the same tower whatever the seed."""
    words = [*COMMANDS, TEXT, QUESTION, ANSWER, *(str(n) for n in range(101))]
    processor = Processor(train_tokenizer(words), params.simulation.image_size, vision.NUM_TOKENS)
    ranges = ActionStatistics((-1.0,) * 6, (1.0,) * 6, 0.06, 0.6)
    torch.manual_seed(seed)
    made = vlm.tiny(params.model, params.simulation.image_size, processor)
    # A trained tokenizer has 1024 tokens; the head's cost is theirs.
    made.resize_token_embeddings(1024, mean_resizing=False)
    return VlaPolicy(
        made, processor, PolicyConfig(params.model, ranges, conventions.WIDOWX_SIMULATION, True)
    )


def batches(params: Params, model: VlaPolicy) -> Mixer:
    """Frames that all keep their text, and questions."""
    processor, shape = model.processor, params.model
    encoded = torch.randn(FRAMES, processor.image_tokens, vlm.vision_width(model.vlm))
    robot = samples.RobotSamples(
        encoded,
        torch.randn(FRAMES, shape.chunk, 7),
        torch.zeros(FRAMES, 7),
        [processor.robot_prompt(COMMANDS[i % 2]) for i in range(FRAMES)],
        [processor.robot_prompt(COMMANDS[0])] * FRAMES,
        [processor.reasoning(TEXT)] * FRAMES,
        True,
    )
    questions = samples.QuestionSamples(
        encoded,
        np.arange(ASKED),
        [processor.question_prompt(QUESTION)] * ASKED,
        [processor.answer(ANSWER)] * ASKED,
    )
    settings = params.distill
    share = params.mix.multimodal_share
    return Mixer(processor, settings.batch_size, share, 0, robot, questions, draws=settings.draws)


def stepper(params: Params, variant: str, steps: int) -> Callable[[int], None]:
    """One optimiser step of a variant, with a student of its own."""
    settings = params.distill.model_copy(update={"steps": steps, "cache": variant == LOOKED_UP})
    student = policy(params, 0)
    mixer = batches(params, student)
    pair = teachers.Pair(None, None)
    if variant != PLAIN:
        pair = teachers.Pair(policy(params, 1).eval(), policy(params, 2).eval())
        for teacher in (pair.action, pair.reasoning):
            assert teacher is not None
            teacher.requires_grad_(False)
    empty = Mixer(mixer.processor, mixer.size, 0.0, 0)
    data = policies.Splits(mixer, empty)
    marks = {"action": "a" * 16, "reasoning": "b" * 16}
    teach = policies.teaching(settings, pair, data, marks)
    compute = policies.objective(student, settings.language_weight, (settings, teach))
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, fused=True)
    student.train()

    def step(number: int) -> None:
        with loop.autocast():
            losses = compute(mixer(number))
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(params: Params, steps: int) -> dict[str, Any]:
    """Medians of every variant, and its ratio to plain fine-tuning, with the quartiles."""
    names = [PLAIN, BOTH, LOOKED_UP]
    run = {name: stepper(params, name, steps + WARM_UP) for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for number in range(steps + WARM_UP):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            at, used = time.perf_counter(), time.process_time()
            run[name](number)
            if number >= WARM_UP:
                wall[name].append(time.perf_counter() - at)
                cpu[name].append(time.process_time() - used)
    result: dict[str, Any] = {}
    for name in names:
        # Turns lie side by side: the ratio within one is free of what changes between them.
        ratios = np.divide(cpu[name], cpu[PLAIN])
        result[name] = {
            "wall_ms": 1e3 * statistics.median(wall[name]),
            "cpu_ms": 1e3 * statistics.median(cpu[name]),
            "wall_ratio": statistics.median(wall[name]) / statistics.median(wall[PLAIN]),
            "cpu_ratio": statistics.median(cpu[name]) / statistics.median(cpu[PLAIN]),
            "paired_cpu_ratio_quartiles": np.quantile(ratios, [0.25, 0.5, 0.75]).tolist(),
        }
    return result


def commit() -> str:
    """Short id of the commit."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def page(record: dict[str, Any]) -> str:
    """The Markdown report."""
    lines = ["# Step time with teachers", ""]
    lines += [
        f"`python benchmarks/step_time.py`: commit {record['commit']}; {record['hardware']}, "
        f"{record['threads']} thread, precision {record['precision']}. {record['note']}".strip(),
        f"Median of {record['steps']} steps a variant, the three taking turns. Untrained models of",
        "each profile's shape; every frame keeps a text, every batch is",
        f"{record['batch']}. Targets of the action teacher: {record['targets']}. Ratios are to",
        "plain fine-tuning; in brackets the quartiles of the ratio within a turn.",
    ]
    for profile, result in record["profiles"].items():
        lines += ["", f"## Profile `{profile}`", ""]
        lines += ["| step | wall ms | CPU ms | wall ratio | CPU ratio |", "|---|---|---|---|---|"]
        for name, row in result.items():
            low, _, high = row["paired_cpu_ratio_quartiles"]
            lines.append(
                f"| {name} | {row['wall_ms']:.0f} | {row['cpu_ms']:.0f} | {row['wall_ratio']:.3f} "
                f"| {row['cpu_ratio']:.3f} [{low:.3f}, {high:.3f}] |"
            )
    return "\n".join(lines) + "\n"


def _alike(params: Params) -> tuple[Any, ...]:
    """What one page states for all of its profiles."""
    share, settings = params.mix.multimodal_share, params.distill
    return settings.batch_size, share, settings.targets.model_dump_json(), params.threads


def main() -> None:
    """Measure, print the page and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", nargs="+", default=["default"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--note", default="", help="what else used the machine")
    given = parser.parse_args()
    base, record = config.read_yaml("params/default.yaml"), {}
    for profile in given.profiles:
        patch = {} if profile == "default" else config.read_yaml(f"params/{profile}.yaml")
        params = config.parse(config.merge(base, patch))
        torch.set_num_threads(params.threads)
        record[profile] = params
    if len({_alike(one) for one in record.values()}) > 1:
        parser.error("these profiles have other batches, targets or threads: a page each")
    asked = round(params.distill.batch_size * params.mix.multimodal_share)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(sys.stderr),
    ):
        profiles = {name: measure(params, given.steps) for name, params in record.items()}
    result = {
        "schema": 1,
        "commit": COMMIT,
        "hardware": hardware(),
        "cpus": os.cpu_count(),
        "threads": params.threads,
        "precision": loop.precision(),
        "steps": given.steps,
        "batch": f"{params.distill.batch_size - asked} frames and {asked} questions",
        "targets": ", ".join(k for k, v in params.distill.targets.model_dump().items() if v),
        "note": given.note,
        "profiles": profiles,
    }
    sys.stdout.write(page(result))
    if given.json:
        files.write_json(given.json, result)


COMMIT = commit()

if __name__ == "__main__":
    main()
