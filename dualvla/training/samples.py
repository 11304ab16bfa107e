"""Training samples in memory, and batches of them as a pure function of (seed, step).

Pictures are held as the frozen vision tower's output, texts as tokens; a batch is then a few array
look-ups. Robot frames and questions come from the mixture's index, so that what a run has seen is
written down in one file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualvla.data import lerobot
from dualvla.models import actions
from dualvla.models.actions import ActionStatistics
from dualvla.models.processing import Processor
from dualvla.training import loop
from dualvla.training.losses import Batch, draw


@dataclass(frozen=True)
class RobotSamples:
    """Frames with actions; N frames."""

    encoded: Tensor  # (N, V, Dv)
    actions: Tensor  # (N, H, 7) normalised targets
    state: Tensor  # (N, 7) normalised
    prompts: Sequence[list[int]]  # tokens up to the decision to think or to act
    answers: Sequence[list[int]]  # the decision, and the reasoning text
    labelled: bool  # whether answers carry a loss


@dataclass(frozen=True)
class QuestionSamples:
    """Questions about pictures; M questions over P pictures."""

    encoded: Tensor  # (P, V, Dv)
    picture: np.ndarray  # (M,) row of `encoded`
    prompts: Sequence[list[int]]
    answers: Sequence[list[int]]


def controller(dataset: lerobot.Dataset) -> np.ndarray:
    """The controller's target pose (N, 6), or the measured pose where none was recorded."""
    if lerobot.CONTROLLER in dataset.features:
        return dataset.column(lerobot.CONTROLLER)
    return dataset.column(lerobot.STATE)[:, :6]


def action_targets(dataset: lerobot.Dataset) -> list[np.ndarray]:
    """Absolute targets (T, 7) of every episode."""
    poses, moves = controller(dataset), dataset.column(lerobot.ACTION)
    rows = [slice(r.start, r.stop) for r in map(dataset.rows, range(len(dataset.episodes)))]
    return [actions.targets(poses[row], moves[row]) for row in rows]


def statistics(dataset: lerobot.Dataset) -> ActionStatistics:
    """Action statistics of a data set."""
    return actions.fit(action_targets(dataset), [dataset.column(lerobot.ACTION)])


def action_chunks(dataset: lerobot.Dataset, stats: ActionStatistics, length: int) -> Tensor:
    """Normalised target chunks (N, length, 7) of every frame."""
    parts = [actions.chunks(t, length) for t in action_targets(dataset)]
    return torch.from_numpy(actions.normalise(np.concatenate(parts), stats))


def normalised_state(state: np.ndarray, stats: ActionStatistics) -> Tensor:
    """States (N, 7) scaled like actions, the opening to [-1, 1]."""
    opening = state[:, 6:] * 2 - 1
    scaled = actions.normalise(np.concatenate([state[:, :6], opening], axis=-1), stats)
    return torch.from_numpy(scaled)


def robot_batch(
    samples: RobotSamples, rows: np.ndarray, generator: torch.Generator
) -> dict[str, Any]:
    """Arrays of the robot rows of a batch, as keywords of `Batch`."""
    chunk = samples.actions[rows]
    noise, time = draw(chunk, generator)
    return {"actions": chunk, "state": samples.state[rows], "noise": noise, "time": time}


@dataclass(frozen=True)
class Mixer:
    """Builds batches of robot frames and questions.

    Attributes:
        size: rows a batch.
        share: of questions among them; 0 without `questions`.
        seed: of order and noise.
    """

    processor: Processor
    size: int
    share: float
    seed: int
    robot: RobotSamples | None = None
    questions: QuestionSamples | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        asked = 0 if self.questions is None else round(self.size * self.share)
        if self.robot is None:
            asked = self.size
        robots, questions = np.empty(0, np.int64), np.empty(0, np.int64)
        if self.robot is not None:
            total = len(self.robot.prompts)
            robots = loop.sample(self.seed, step, self.size - asked, total)
        if self.questions is not None and asked:
            questions = loop.sample(self.seed + 1, step, asked, len(self.questions.prompts))
        return self.rows(robots, questions, loop.generator(self.seed, step))

    def rows(self, robots: np.ndarray, questions: np.ndarray, generator: torch.Generator) -> Batch:
        """The batch of given robot frames and questions."""
        encoded, prompts, answers, labelled = [], [], [], []
        extra: dict[str, Any] = {
            "actions": torch.zeros(0, 1, 7),
            "state": torch.zeros(0, 7),
            "noise": torch.zeros(0, 1, 1, 7),
            "time": torch.zeros(0, 1),
        }
        plain = None
        if self.robot is not None and len(robots):
            extra = robot_batch(self.robot, robots, generator)
            encoded.append(self.robot.encoded[robots])
            prompts += [self.robot.prompts[i] for i in robots]
            answers += [self.robot.answers[i] for i in robots]
            labelled += [self.robot.labelled] * len(robots)
            act = [self.processor.reasoning(None)] * len(robots)
            plain = self.processor.pad(prompts, act)
        if self.questions is not None and len(questions):
            encoded.append(self.questions.encoded[self.questions.picture[questions]])
            prompts += [self.questions.prompts[i] for i in questions]
            answers += [self.questions.answers[i] for i in questions]
            labelled += [True] * len(questions)
        sequences = self.processor.pad(prompts, answers)
        sequences.labels[~torch.tensor(labelled)] = -100
        return Batch(torch.cat(encoded), sequences, len(robots), plain=plain, **extra)
