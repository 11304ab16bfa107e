"""Training samples in memory, and batches of them as a pure function of (seed, step).

Pictures are held as the frozen vision tower's output, texts as tokens; a batch is then a few array
look-ups. Robot frames and questions come from the mixture's index, so that what a run has seen is
written down in one file. Noise belongs to a frame and its draw, not to a step: what a teacher says
about them can be kept, whatever batch they turn up in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualvla.data import lerobot
from dualvla.models import actions
from dualvla.models import streams as layout
from dualvla.models.action_expert import flow_time
from dualvla.models.actions import ActionStatistics
from dualvla.models.processing import Processor
from dualvla.training import loop, streams
from dualvla.training.losses import Batch
from dualvla.training.streams import Streams

UNLIMITED = 2**31  # more epochs than any run has
NOISE_SAMPLES = 2  # flow-matching draws per hidden state: the expert is cheap, the decoder is not


@dataclass(frozen=True)
class RobotSamples:
    """Frames with actions; N frames."""

    encoded: Tensor  # (N, V, Dv)
    actions: Tensor  # (N, H, 7) normalised targets
    state: Tensor  # (N, 7) normalised
    prompts: Sequence[list[int]]  # tokens up to the decision to think or to act
    plain: Sequence[list[int]]  # the same with the episode's plain command: an action teacher's
    answers: Sequence[list[int]]  # the decision, and the reasoning text
    labelled: bool  # whether answers carry a loss
    streams: "Streams | None" = None  # of a policy with two streams; answers do not count then
    remembered: Tensor | None = None  # (N, V, Dv) pictures that their words are about


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


def noise(
    seed: int, rows: np.ndarray, draws: np.ndarray, shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Noise (R, N, *shape) and flow times (R, N) of frames and their draws.

    Both are pure functions of the seed, the frame's row and the draw's number.
    """
    several, times = [], []
    for row, draw in zip(rows.tolist(), draws.tolist(), strict=True):
        generator = loop.generator(seed, row, draw)
        several.append(torch.randn(NOISE_SAMPLES, *shape, generator=generator))
        times.append(torch.rand(NOISE_SAMPLES, generator=generator))
    return torch.stack(several), flow_time(torch.stack(times))


@dataclass(frozen=True)
class Mixer:
    """Builds batches of robot frames and questions.

    Attributes:
        size: rows a batch.
        share: of questions among them; 0 without `questions`.
        seed: of order and noise.
        draws: different noise draws a frame gets, one an epoch and then again from the first;
            None never repeats one.
        split: train | heldout.
    """

    processor: Processor
    size: int
    share: float
    seed: int
    robot: RobotSamples | None = None
    questions: QuestionSamples | None = None
    draws: int | None = None
    split: str = "train"

    @property
    def shares(self) -> tuple[int, int]:
        """Robot rows and questions of a batch."""
        if self.robot is None:
            return 0, self.size
        asked = 0 if self.questions is None else round(self.size * self.share)
        return self.size - asked, asked

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        robots, asked = self.shares
        rows = draws = questions = np.empty(0, np.int64)
        if self.robot is not None and robots:
            total = len(self.robot.prompts)
            rows = loop.sample(self.seed, step, robots, total)
            draws = (step * robots + np.arange(robots)) // total % (self.draws or UNLIMITED)
        if self.questions is not None and asked:
            questions = loop.sample(self.seed + 1, step, asked, len(self.questions.prompts))
        return self.rows(rows, draws, questions)

    def rows(self, robots: np.ndarray, draws: np.ndarray, questions: np.ndarray) -> Batch:
        """The batch of given robot frames, each with the number of its noise draw, and questions.

        Args:
            robots: (R,) rows of `robot`.
            draws: (R,).
            questions: (Q,) rows of `questions`; R + Q is not 0.
        """
        encoded, prompts, answers, labelled = [], [], [], []
        extra: dict[str, Any] = {
            "actions": torch.zeros(0, 1, 7),
            "state": torch.zeros(0, 7),
            "noise": torch.zeros(0, 1, 1, 7),
            "time": torch.zeros(0, 1),
        }
        plain = None
        if self.robot is not None and len(robots):
            chunk = self.robot.actions[robots]
            given, time = noise(self.seed, robots, draws, chunk.shape[1:])
            state = self.robot.state[robots]
            extra = {"actions": chunk, "state": state, "noise": given, "time": time}
            encoded.append(self.robot.encoded[robots])
            prompts += [self.robot.prompts[i] for i in robots]
            answers += [self.robot.answers[i] for i in robots]
            labelled += [self.robot.labelled] * len(robots)
            act = [self.processor.reasoning(None)] * len(robots)
            plain = self.processor.pad([self.robot.plain[i] for i in robots], act)
        if self.questions is not None and len(questions):
            encoded.append(self.questions.encoded[self.questions.picture[questions]])
            prompts += [self.questions.prompts[i] for i in questions]
            answers += [self.questions.answers[i] for i in questions]
            labelled += [True] * len(questions)
        remembered = None
        if self.robot is not None and self.robot.streams is not None:
            two = self.robot.streams
            several = [
                streams.row(two, int(frame), prompt, self.processor.act_id)
                for frame, prompt in zip(robots, prompts, strict=False)
            ]
            asked = slice(len(robots), None)
            pairs = zip(prompts[asked], answers[asked], strict=True)
            several += [layout.question(p, a) for p, a in pairs]
            sequences = layout.pad(self.processor, several)
            assert self.robot.remembered is not None
            remembered = torch.cat([self.robot.remembered[robots], *encoded[1:]])
        else:
            sequences = self.processor.pad(prompts, answers)
            sequences.labels[~torch.tensor(labelled)] = -100
        return Batch(
            torch.cat(encoded),
            sequences,
            len(robots),
            plain=plain,
            remembered=remembered,
            split=self.split,
            index=torch.from_numpy(np.concatenate([robots, questions])),
            draw=torch.from_numpy(draws),
            **extra,
        )
