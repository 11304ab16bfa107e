"""One demonstration: the expert's clean actions, recorded while noise disturbs what it executes.

What is executed is the expert's action plus noise and a rare kick; what is recorded as the label is
the clean action for the state the noise led to. A policy so learns to return to the path, which
clean demonstrations never show. An episode is a pure function of (seed, task, attempt).
"""

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualvla import poses
from dualvla.config import Demonstrations
from dualvla.conventions import ENVIRONMENT_STATE_NAMES, PHASES
from dualvla.interface import FloatArray, ImageArray, Observation
from dualvla.simulation import starts
from dualvla.simulation.environments import Environment, value
from dualvla.simulation.expert import Expert

HELD = 5  # frames with the object released and the task's rule fulfilled that end an episode
REGRASPS = 1  # times the object may be lost
KICK = 0.015  # metres
JPEG_QUALITY = 95

_PHASE = ENVIRONMENT_STATE_NAMES.index("phase")
_REACH = PHASES.index("reach")
_RETREAT = PHASES.index("retreat")


@dataclass(frozen=True, eq=False)
class Episode:
    """A successful demonstration of T frames; an action belongs to the observation before it."""

    images: list[bytes]  # T pictures, JPEG
    states: FloatArray  # (T, 7)
    controllers: FloatArray  # (T, 6)
    environment_states: FloatArray  # (T, K)
    actions: FloatArray  # (T, 7) labels
    camera: dict[str, Any]  # camera.Camera.to_json
    distractors: tuple[str, ...]  # other things in the scene


def record(
    environment: Environment, expert: Expert, params: Demonstrations, seed: int, attempt: int
) -> Episode | None:
    """Try one demonstration; None if the expert fails or loses the object twice.

    Args:
        environment: of the task.
        expert: of the same asset pack.
        params: starts and noise.
        seed: the run's.
        attempt: number of the try, from 0.
    """
    task = environment.spec.name
    rng = np.random.default_rng([seed, zlib.crc32(task.encode()), attempt])
    start = starts.demonstration(task, rng, params)
    # Nothing is drawn where no share is wanted: the episodes stay what they were without it.
    if params.distractor_share and rng.random() < params.distractor_share:
        start = starts.cluttered(task, start, rng)
    seen = environment.reset(start)
    expert.reset(0, seen.instruction, seed)
    frames: list[tuple[Observation, int, FloatArray]] = []
    regrasps = held = 0
    for _ in range(environment.max_steps):
        label = expert.act([0], [seen])[0].actions[0]
        phase = expert.phase(0)
        regrasps += bool(frames and phase == _REACH != frames[-1][1])
        frames.append((seen, phase, label))
        held = held + 1 if phase == _RETREAT and value(seen, "success") > 0.5 else 0
        if held == HELD:
            return _episode(frames, environment.camera().to_json(), start.distractors)
        if regrasps > REGRASPS:
            return None
        seen = environment.step(disturbed(label, rng, params))
    return None


def disturbed(action: FloatArray, rng: np.random.Generator, params: Demonstrations) -> FloatArray:
    """An action (7,) with noise on a share of steps and a kick on a smaller one.

    The same number of random values is drawn whatever happens, so that the noise of a step does
    not depend on that of the steps before it.
    """
    noisy, kicked = rng.random(2) < (params.noise_share, params.kick_share)
    moved, turned = rng.normal(0, params.noise_xyz, 3), rng.normal(0, params.noise_rotation, 3)
    kick = rng.normal(size=3)
    push = noisy * moved + kicked * KICK * kick / np.linalg.norm(kick)
    result = action.astype(np.float64)
    result[:3] += push
    result[3:6] = poses.compose(np.r_[0, 0, 0, result[3:6]], np.r_[0, 0, 0, noisy * turned])[3:]
    return result.astype(np.float32)


def encode(image: ImageArray) -> bytes:
    """A picture as JPEG, with full colour resolution: the objects are a few pixels wide."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _episode(
    frames: list[tuple[Observation, int, FloatArray]],
    camera: dict[str, Any],
    distractors: tuple[str, ...],
) -> Episode:
    privileged = np.stack([seen.environment_state for seen, _, _ in frames])
    privileged[:, _PHASE] = [phase for _, phase, _ in frames]
    return Episode(
        images=[encode(seen.image) for seen, _, _ in frames if seen.image is not None],
        states=np.stack([seen.state for seen, _, _ in frames]),
        controllers=np.stack([seen.controller for seen, _, _ in frames]),
        environment_states=privileged,
        actions=np.stack([label for _, _, label in frames]),
        camera=camera,
        distractors=distractors,
    )
