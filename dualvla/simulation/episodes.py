"""An episode: what is to run, what happened so far, and what came of it.

`rollouts` runs episodes in worker processes and `parallel` in one scene; both ask the policy here,
so that an answer is checked, cut and written down in one way. An answer that is no action (NaN, a
wrong shape, out of range) is the policy's own fault and would come again: its episode is an error.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from dualvla import conventions
from dualvla.interface import Decision, FloatArray, ImageArray, Observation, Policy

FAULT = "the policy answered"  # begins the error of an episode that its policy spoilt


class AnyStart(Protocol):
    """What a worker is reset to: a `Start` of this project's tasks, or another engine's own."""

    @property
    def id(self) -> str:
        """Differs between the starts of a task."""

    @property
    def instruction(self) -> str:
        """What the robot is told; empty: the task's own command."""


@dataclass(frozen=True, eq=False)
class Job:
    """One episode to run."""

    task: str
    start: AnyStart
    seed: int  # of the policy
    max_steps: int
    video: bool = False  # whether every frame is kept
    first: bool = False  # whether it runs before those that are not


@dataclass
class Trajectory:
    """What happened in one episode of T steps. A crashed one has an error and no steps."""

    job: Job
    status: Literal["ok", "error"]
    error: str
    states: FloatArray  # (T + 1, 7)
    controllers: FloatArray  # (T + 1, 6)
    actions: FloatArray  # (T, 7)
    environment_states: FloatArray  # (T + 1, K)
    decisions: list[tuple[int, Decision]]  # step, answer
    images: list[ImageArray]  # what the policy saw, one a decision
    frames: list[ImageArray]  # T + 1 of them if job.video, else none
    decision_seconds: list[float]  # wall-clock time of each decision, a share of its batch's


@dataclass(eq=False)
class Episode:
    """An episode on its way."""

    job: Job
    attempt: int
    observations: list[Observation] = field(default_factory=list)
    actions: list[FloatArray] = field(default_factory=list)
    decisions: list[tuple[int, Decision]] = field(default_factory=list)
    images: list[ImageArray] = field(default_factory=list)
    frames: list[ImageArray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def saw(self, observations: list[Observation]) -> None:
        """Keep what a worker sent, pictures apart."""
        if self.job.video:
            self.frames += [seen.image for seen in observations if seen.image is not None]
        self.observations += observations

    def result(self, error: str = "") -> Trajectory:
        """The trajectory, empty after an error."""
        seen = [] if error else self.observations
        size = len(conventions.ENVIRONMENT_STATE_NAMES)
        return Trajectory(
            job=self.job,
            status="error" if error else "ok",
            error=error,
            states=_stack([o.state for o in seen], 7),
            controllers=_stack([o.controller for o in seen], 6),
            actions=_stack([] if error else self.actions, 7),
            environment_states=_stack([o.environment_state for o in seen], size),
            decisions=[] if error else self.decisions,
            images=[] if error else self.images,
            frames=[] if error else self.frames,
            decision_seconds=[] if error else self.seconds,
        )


def ask(
    policy: Policy, episodes: Mapping[int, Episode], execute: int
) -> dict[int, FloatArray | str]:
    """One decision for the episode of each slot, made in one batch and written down there.

    Returns:
        for each slot the (n, 7) actions to execute, or what makes the answer none.
    """
    begin = time.perf_counter()
    shown = [episode.observations[-1] for episode in episodes.values()]
    decisions = policy.act(list(episodes), shown)
    seconds = (time.perf_counter() - begin) / len(episodes)
    answers: dict[int, FloatArray | str] = {}
    for (slot, episode), seen, decision in zip(episodes.items(), shown, decisions, strict=True):
        if fault := conventions.fault(decision.actions):
            answers[slot] = f"{FAULT} {fault}"
            continue
        left = episode.job.max_steps - len(episode.actions)
        actions = np.asarray(decision.actions, np.float32)[: min(execute, left)]
        episode.decisions.append((len(episode.actions), decision))
        episode.seconds.append(seconds)
        if seen.image is not None:
            episode.images.append(seen.image)
        episode.actions += list(actions)
        answers[slot] = actions
    return answers


def _stack(rows: list[FloatArray], width: int) -> FloatArray:
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)
