"""Simulated episodes without a simulator: a gripper picks one thing and puts it on another."""

import io

import numpy as np
from PIL import Image

from dualvla import conventions
from dualvla.conventions import ENVIRONMENT_STATE_NAMES, PHASES
from dualvla.data import lerobot
from dualvla.data.lerobot import ACTION, CAMERA, CONTROLLER, ENVIRONMENT, STATE

ABOUT = lerobot.About("simulation", "simulation", conventions.WIDOWX_SIMULATION, "generated")
AT = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}

# Per frame: phase, movement in metres (forward, left, up), gripper command.
SCRIPT = (
    *(("reach", (0.03, 0.0, 0.0), 1),) * 5,
    *(("lower", (0.0, 0.0, -0.03), 1),) * 4,
    *(("grasp", (0.0, 0.0, 0.0), -1),) * 2,
    *(("lift", (0.0, 0.0, 0.03), -1),) * 4,
    *(("move", (0.0, 0.03, 0.0), -1),) * 6,
    *(("place", (0.0, 0.0, -0.03), -1),) * 3,
    *(("release", (0.0, 0.0, 0.0), 1),) * 2,
    *(("retreat", (0.0, 0.0, 0.03), 1),) * 3,
)


def columns(seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of `lerobot.simulation_features`."""
    rng = np.random.default_rng(seed)
    moves = np.array([move for _, move, _ in SCRIPT], np.float32)
    gripper = np.array([command for _, _, command in SCRIPT], np.float32)
    length = len(SCRIPT)
    xyz = np.array([0.3, 0.0, 0.2], np.float32) + np.cumsum(moves, axis=0) - moves
    opening = np.concatenate([[1.0], gripper[:-1] > 0]).astype(np.float32)
    state = np.concatenate([xyz, np.zeros((length, 3)), opening[:, None]], axis=1)
    action = np.concatenate([moves, np.zeros((length, 3)), gripper[:, None]], axis=1)
    environment = np.zeros((length, len(ENVIRONMENT_STATE_NAMES)))
    u, v = rng.uniform(0.1, 0.4, 2)
    environment[:, [AT["source.u"], AT["source.v"]]] = u, v
    environment[:, [AT["target.u"], AT["target.v"]]] = 0.8, 0.5
    environment[:, AT["phase"]] = [PHASES.index(phase) for phase, _, _ in SCRIPT]
    environment[-1, AT["success"]] = 1
    found = {STATE: state, CONTROLLER: state[:, :6], ENVIRONMENT: environment, ACTION: action}
    return {name: values.astype(np.float32) for name, values in found.items()}


def pictures(size: int = 16) -> list[bytes]:
    """One noisy picture a frame."""
    found = []
    for frame in range(len(SCRIPT)):
        stream = io.BytesIO()
        noise = np.random.default_rng(frame).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(stream, "JPEG")
        found.append(stream.getvalue())
    return found


def write(root, tasks=("put carrot on plate", "put the spoon on the towel"), size: int = 16):
    """A data set with one episode a task."""
    features = lerobot.simulation_features(size)
    with lerobot.Writer(root, 5, "widowx", features, ABOUT) as writer:
        for seed, task in enumerate(tasks):
            writer.add(columns(seed), {CAMERA: pictures(size)}, task)
    return root
