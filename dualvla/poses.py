"""Poses, and the one rule by which an action moves the controller's target.

A pose is six numbers: position in the robot base frame (metres) and Euler XYZ angles (radians) of
the rotation away from the gripper pointing straight down, as in BridgeData. Measured from down, all
three angles stay small and continuous at work; measured from the base axes, a gripper that points
down sits on the singularity of Euler angles (pitch 90 degrees).

Euler XYZ means R = Rx(roll) Ry(pitch) Rz(yaw). ManiSkill's controller adds the translation of an
action to its target's position and multiplies the action's rotation from the left, both in base
axes: R' = R(action) R. Turning the reference does not change that rule, R' D = R(action) R D, so
`compose` holds for poses measured from down exactly as for the controller's own. Only NumPy is
needed, all functions work on any leading axes, arithmetic is double precision and the result has
the precision of the inputs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Columns are the axes of a gripper that points straight down, in the base frame: its approach axis
# (x) points to -z, its fingers open along y.
DOWN: NDArray[np.float64] = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def matrix_from_euler(angles: Array) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of Euler XYZ angles (..., 3) in radians."""
    a, b, c = np.moveaxis(np.asarray(angles, np.float64), -1, 0)
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    rows = [
        [cb * cc, -cb * sc, sb],
        [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb],
        [sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def euler_from_matrix(matrix: Array) -> NDArray[np.float64]:
    """Euler XYZ angles (..., 3) of rotation matrices (..., 3, 3), pitch in [-pi/2, pi/2]."""
    m = np.asarray(matrix, np.float64)
    roll = np.arctan2(-m[..., 1, 2], m[..., 2, 2])
    pitch = np.arctan2(m[..., 0, 2], np.hypot(m[..., 0, 0], m[..., 0, 1]))
    yaw = np.arctan2(-m[..., 0, 1], m[..., 0, 0])
    return np.stack([roll, pitch, yaw], axis=-1)


def matrix_from_quaternion(quaternion: Array) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of quaternions wxyz (..., 4) of any length above 0."""
    q = np.asarray(quaternion, np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def multiply(left: Array, right: Array) -> NDArray[np.float64]:
    """Quaternion product wxyz (..., 4): first `right`, then `left`."""
    w, x, y, z = np.moveaxis(np.asarray(left, np.float64), -1, 0)
    a, b, c, d = np.moveaxis(np.asarray(right, np.float64), -1, 0)
    parts = [
        w * a - x * b - y * c - z * d,
        w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b,
        w * d + x * c - y * b + z * a,
    ]
    return np.stack(parts, axis=-1)


def conjugate(quaternion: Array) -> NDArray[np.float64]:
    """Inverse of unit quaternions wxyz (..., 4)."""
    return np.asarray(quaternion, np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def yaw_quaternion(yaw: float) -> NDArray[np.float64]:
    """Quaternion wxyz (4,) of a turn by `yaw` radians about z."""
    return np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def to_base(position: Array, quaternion: Array, base: Array) -> NDArray[np.float64]:
    """World poses as poses in the robot base frame.

    Args:
        position: (..., 3) metres, world frame.
        quaternion: (..., 4) wxyz, world frame.
        base: (7,) position and quaternion of the base in the world.

    Returns:
        (..., 7) position and quaternion in the base frame, the quaternion's first part >= 0.
    """
    base = np.asarray(base, np.float64)
    rotation = matrix_from_quaternion(base[3:])
    moved = (np.asarray(position, np.float64) - base[:3]) @ rotation
    turned = multiply(conjugate(base[3:]), quaternion)
    turned = np.where(turned[..., :1] < 0, -turned, turned)
    return np.concatenate([moved, turned], axis=-1)


def from_link(position: Array, quaternion: Array) -> NDArray[np.float64]:
    """Pose (..., 6) of a gripper link given as position (..., 3) and quaternion (..., 4)."""
    angles = euler_from_matrix(matrix_from_quaternion(quaternion) @ DOWN.T)
    return np.concatenate([np.asarray(position, np.float64), angles], axis=-1)


def approach(pose: Array) -> NDArray[np.float64]:
    """Unit vectors (..., 3), base frame, along which the gripper of poses (..., 6) points."""
    return matrix_from_euler(np.asarray(pose)[..., 3:6]) @ DOWN[:, 0]


def compose(controller: Array, action: Array) -> Array:
    """Where an action moves the controller's target: the rule of the simulator's controller.

    Args:
        controller: (..., 6) target pose before.
        action: (..., 6 or more) translation in metres and Euler XYZ rotation; the rest is unused.

    Returns:
        (..., 6) target pose after, of the inputs' precision.
    """
    controller, action = np.asarray(controller), np.asarray(action)
    turn = matrix_from_euler(action[..., 3:6]) @ matrix_from_euler(controller[..., 3:6])
    moved = controller[..., :3].astype(np.float64) + action[..., :3]
    result = np.concatenate([moved, euler_from_matrix(turn)], axis=-1)
    return result.astype(np.result_type(controller, action), copy=False)


def delta(controller: Array, target: Array) -> Array:
    """The action part (..., 6) that moves `controller` (..., 6) to `target` (..., 6).

    Inverse of `compose`: compose(c, delta(c, t)) = t.
    """
    controller, target = np.asarray(controller), np.asarray(target)
    before = matrix_from_euler(controller[..., 3:6])
    turn = matrix_from_euler(target[..., 3:6]) @ np.swapaxes(before, -1, -2)
    moved = target[..., :3].astype(np.float64) - controller[..., :3]
    result = np.concatenate([moved, euler_from_matrix(turn)], axis=-1)
    return result.astype(np.result_type(controller, target), copy=False)


def accumulate(controller: Array, actions: Array) -> Array:
    """Target poses (..., n, 6) after each of `actions` (..., n, 6 or more) from `controller`."""
    actions = np.asarray(actions)
    targets = []
    for step in range(actions.shape[-2]):
        controller = compose(controller, actions[..., step, :])
        targets.append(controller)
    return np.stack(targets, axis=-2)


def deltas(controller: Array, targets: Array) -> Array:
    """Action parts (..., n, 6) that pass through `targets` (..., n, 6) one by one."""
    targets = np.asarray(targets)
    first = np.broadcast_to(np.asarray(controller), targets[..., 0, :].shape)[..., None, :]
    return delta(np.concatenate([first, targets[..., :-1, :]], axis=-2), targets)


def wrap(angle: Array | float, period: float = 2 * np.pi, low: float | None = None) -> Array:
    """Angles modulo `period`, in [low, low + period); low is -period / 2 unless told."""
    start = -period / 2 if low is None else low
    return (np.asarray(angle, np.float64) - start) % period + start
