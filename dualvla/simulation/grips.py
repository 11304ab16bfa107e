"""Where the arm is in a scene: at rest, reaching for an object, holding one, or anywhere.

The gripper mostly points down and its fingers close across an object's long axis, as those of the
scripted expert do. Contact is approximate: finger openings follow from the object's cut at the
grasp, heights from what stands below. Lengths in metres, angles in radians, world frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualvla.objects import BY_NAME
from dualvla.simulation.environments import FINGER_CLOSED, FINGER_OPEN
from dualvla.simulation.shapes import Array, Setting, Shape, apply, pose, turn

# Where objects of mixed scenes lie: x low, high, y low, high. The table's is wider than the tasks'.
AREA = {"table": (-0.30, -0.02, -0.16, 0.16), "sink": (-0.18, -0.08, 0.13, 0.28)}

FINGER = (FINGER_CLOSED, FINGER_OPEN)  # joint limits
REST_NOISE = 0.03  # of the joints around the start configuration
WRIST = 2.0  # gripper yaw on both sides of the start pose, whose yaw in the world is pi


@dataclass(frozen=True)
class Arm:
    """Where the gripper is; `joints` instead of a pose at the start of an episode."""

    tip: Array | None  # (3,) finger-tip centre, world
    rotation: Array | None  # (3, 3) ee_gripper_link in the world: x approach, y finger to finger
    joints: Array | None  # (6,)
    finger: float  # joint value of each finger


def resting(rng: np.random.Generator, shape: Shape, yaw: float) -> Array:
    """Rotation (3, 3) of an object that lies on a plane."""
    roll = turn(0, rng.uniform(-np.pi, np.pi)) if shape.rolls else np.eye(3)
    return turn(2, yaw) @ shape.rest @ roll


def anywhere(rng: np.random.Generator, setting: Setting) -> tuple[Array, float]:
    """A position (2,) where mixed scenes put objects, and a yaw."""
    x0, x1, y0, y1 = AREA[setting.name]
    return rng.uniform([x0, y0], [x1, y1]), float(rng.uniform(-np.pi, np.pi))


def idle(rng: np.random.Generator, setting: Setting, poses: dict[str, Array]) -> Arm | None:
    """The arm while nothing is held: at rest, reaching for an object, or anywhere."""
    kind = rng.random()
    if kind < 0.15:
        joints = setting.rest + rng.normal(0, REST_NOISE, size=6)
        return Arm(None, None, joints, FINGER[1])
    movable = [name for name in poses if BY_NAME[name].movable]
    if kind < 0.55 and movable:
        return reach(rng, setting, poses, str(rng.choice(movable)))
    return _free(rng, setting, poses)


def _free(rng: np.random.Generator, setting: Setting, poses: dict[str, Array]) -> Arm | None:
    xy = _over(rng, setting)
    rotation = _downward(rng, np.pi + float(rng.uniform(-WRIST, WRIST)))
    clear = _clearance(setting, poses, _finger_points(xy, rotation), ())
    tip = np.append(xy, clear + rng.uniform(0.015, 0.16))
    return Arm(tip, rotation, None, _opening(rng, 0.4))


def reach(
    rng: np.random.Generator, setting: Setting, poses: dict[str, Array], name: str
) -> Arm | None:
    """Open fingers above or around an object, as before a grasp and after a release."""
    shape, matrix = setting.shapes[name], poses[name]
    grasp, width = _grasp(rng, shape, name, matrix)
    if grasp is None:
        return None
    point = apply(matrix, grasp[None])[0]
    yaw = np.arctan2(matrix[1, 0], matrix[0, 0]) + rng.normal(0, 0.1)
    rotation = _downward(rng, _branch(rng, float(yaw), name))
    rise = float(rng.uniform(0, 0.012) if rng.random() < 0.4 else rng.uniform(0.012, 0.14))
    xy = point[:2] + rng.normal(0, 0.003 + 0.08 * rise, size=2)
    clear = _clearance(setting, poses, _finger_points(xy, rotation), (name,)) + 0.003
    tip = np.append(xy, max(point[2], clear) + rise)
    least = width / 2 + setting.finger_inner + 0.002
    if least > FINGER[1]:
        return None
    finger = FINGER[1] if rng.random() < 0.8 else float(rng.uniform(least, FINGER[1]))
    return Arm(tip, rotation, None, finger)


def hold(
    rng: np.random.Generator, setting: Setting, poses: dict[str, Array], name: str, near: str | None
) -> tuple[Array, Arm] | None:
    """An object between the fingers, at any height, sometimes just above `near`."""
    shape = setting.shapes[name]
    upright = resting(rng, shape, 0.0)
    grasp, width = _grasp(rng, shape, name, pose(upright, np.zeros(3)))
    finger = width / 2 + setting.finger_inner
    if grasp is None or finger > FINGER[1]:
        return None
    if near is None:
        xy = _over(rng, setting)
    else:
        centre = setting.basket if near == "basket" else poses[near]
        assert centre is not None
        xy = centre[:2, 3] + rng.normal(0, 0.02, size=2)
    yaw = np.pi + float(rng.uniform(-WRIST, WRIST))
    gripper = _downward(rng, yaw)
    sagging = turn(1, rng.normal(0, 0.12)) @ turn(0, rng.normal(0, 0.05))
    half = float(rng.choice([0.0, np.pi]))
    # From the frame of a gripper that points straight down to the tilted one.
    tilt = gripper @ _down(yaw).T
    rotation = tilt @ turn(2, yaw + half) @ sagging @ upright
    hanging = (shape.vertices - grasp) @ rotation.T  # relative to the tip
    points = np.concatenate([_finger_points(xy, gripper), xy + hanging[:, :2]])
    clear = _clearance(setting, poses, points, ()) + 0.002
    lowest = min(0.0, float(hanging[:, 2].min()))
    rise = float(rng.uniform(0, 0.012) if rng.random() < 0.3 else rng.uniform(0.012, 0.15))
    tip = np.append(xy, clear - lowest + rise)
    matrix = pose(rotation, tip - rotation @ grasp)
    return matrix, Arm(tip, gripper, None, float(np.clip(finger, *FINGER)))


def _grasp(
    rng: np.random.Generator, shape: Shape, name: str, matrix: Array
) -> tuple[Array | None, float]:
    """A point between the fingers in the object's frame, and the width the fingers span there."""
    low, high = shape.vertices[:, 0].min(), shape.vertices[:, 0].max()
    share = 0.05 if "cube" in name else 0.3
    at = (low + high) / 2 + share * float(rng.uniform(-1, 1)) * (high - low)
    cut = shape.slice(at)
    if not len(cut):
        return None, 0.0
    # The fingers close level and across the long axis; the grasp is near the middle of the cut.
    long_axis = matrix[:3, 0] * [1, 1, 0]
    across = np.cross([0, 0, 1], long_axis / max(float(np.linalg.norm(long_axis)), 1e-6))
    spans = (cut @ matrix[:3, :3].T) @ across
    middle = (cut.min(0) + cut.max(0)) / 2
    down = matrix[2, :3] * float(rng.uniform(-0.007, 0.005))
    return middle + down, float(spans.max() - spans.min())


def _branch(rng: np.random.Generator, yaw: float, name: str) -> float:
    """One of the yaws that grasp alike, within what the wrist reaches."""
    period = np.pi / 2 if "cube" in name else np.pi
    options = yaw + period * np.arange(-6, 10)
    return float(rng.choice(options[np.abs(options - np.pi) < WRIST]))


def _down(yaw: float) -> Array:
    """A gripper that points straight down, its fingers across the direction `yaw`; world."""
    across = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    approach = np.array([0.0, 0.0, -1.0])
    return np.stack([approach, across, np.cross(approach, across)], axis=1)


def _downward(rng: np.random.Generator, yaw: float) -> Array:
    angle = rng.normal(0, 0.05) if rng.random() < 0.9 else rng.uniform(-0.3, 0.3)
    heading = turn(2, float(rng.uniform(-np.pi, np.pi)))
    return heading @ turn(0, float(angle)) @ heading.T @ _down(yaw)


def _over(rng: np.random.Generator, setting: Setting) -> Array:
    if setting.name == "table":
        return anywhere(rng, setting)[0]
    return rng.uniform([-0.22, -0.03], [-0.05, 0.28])  # basin, basket and the wall between them


def _finger_points(xy: Array, rotation: Array) -> Array:
    across, along = rotation[:2, 1], rotation[:2, 2]
    steps = [(0, 0), *((a, b) for a in (-0.055, -0.03, 0.03, 0.055) for b in (-0.015, 0.015))]
    return np.array([xy + a * across + b * along for a, b in steps])


def _clearance(
    setting: Setting, poses: dict[str, Array], points: Array, ignore: Sequence[str]
) -> float:
    """Height under which something stands below any of the (n, 2) points."""
    clear = float(setting.floor(points).max())
    for name, matrix in poses.items():
        if name in ignore:
            continue
        vertices = apply(matrix, setting.shapes[name].vertices)
        low, high = vertices[:, :2].min(0) - 0.006, vertices[:, :2].max(0) + 0.006
        if np.any(np.all((points > low) & (points < high), axis=1)):
            clear = max(clear, float(vertices[:, 2].max()))
    return clear


def _opening(rng: np.random.Generator, wide: float) -> float:
    """A finger joint's value: wide open, closed, or anything between."""
    kind = rng.random()
    if kind < wide:
        return FINGER[1]
    return FINGER[0] if kind > 0.85 else float(rng.uniform(*FINGER))
