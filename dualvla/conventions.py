"""Action and observation conventions as data, compared before any work starts.

Half of the silent zeros in robot evaluation are a mismatch nobody wrote down: a gripper polarity, a
rotation format, a control rate. Producer (data set, policy) and consumer (environment) each declare
a `Convention`; `require_same` refuses the first difference.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dualvla.errors import UserError

ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
STATE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


@dataclass(frozen=True)
class Convention:
    """How a 7-D action and a 7-D state are to be read."""

    robot: str
    control_hz: float
    frame: str  # frame of translation and rotation deltas
    translation: str  # unit and meaning of action[0:3]
    rotation: str  # format of action[3:6]
    gripper: str  # meaning of action[6]
    state: str  # meaning of observation.state

    def to_json(self) -> dict[str, Any]:
        """As plain data, for checkpoints and results."""
        return asdict(self)


WIDOWX_SIMULATION = Convention(
    robot="widowx",
    control_hz=5.0,
    frame="robot base",
    translation="delta of the controller target, metres",
    rotation="delta of the controller target, Euler XYZ, radians",
    gripper="absolute, +1 open, -1 closed",
    state="gripper in the base frame: metres, Euler XYZ radians from pointing down; opening [0, 1]",
)

# The original SimplerEnv's controller (`arm_pd_ee_delta_pose_align`) moves from the measured pose.
GOOGLE_SIMULATION = Convention(
    robot="google_robot",
    control_hz=3.0,
    frame="robot base",
    translation="delta of the measured pose, metres",
    rotation="delta of the measured pose, axis-angle, radians",
    gripper="change of the target, +1 closes, -1 opens, 0 keeps",
    state="gripper in the base frame: metres, Euler XYZ radians; opening [0, 1]",
)

WIDOWX_BRIDGE = Convention(
    robot="widowx",
    control_hz=5.0,
    frame="robot base",
    translation="delta of the measured pose, metres",
    rotation="delta of the measured pose, Euler XYZ, radians",
    gripper="absolute, +1 open, -1 closed",
    state="gripper in the base frame: metres, Euler XYZ radians from pointing down; opening [0, 1]",
)

# Shards come in the convention in which policies act here: what is trained on them is evaluated.
BY_SOURCE = {
    "simulation": WIDOWX_SIMULATION,
    "rlds": WIDOWX_BRIDGE,
    "incoming": WIDOWX_SIMULATION,
}


def from_json(data: dict[str, Any], where: str) -> Convention:
    """Read a stored convention; a `UserError` if a field is missing or unknown."""
    try:
        return Convention(**data)
    except TypeError as error:
        raise UserError(f"not a convention: {error}", where=where, fix="write it anew") from error


def require_same(producer: Convention, consumer: Convention, *, where: str) -> None:
    """Raise a `UserError` naming the first field in which the two differ."""
    for name, value in producer.to_json().items():
        other = getattr(consumer, name)
        if value != other:
            raise UserError(
                f"convention {name} differs: {value!r} against {other!r}",
                where=where,
                fix="use a policy, data and an environment of one convention",
            )


# What one action of a control step may be at most: a policy beyond it speaks another unit.
MAX_TRANSLATION, MAX_ROTATION = 0.25, 3.2  # metres and radians, in each axis


def fault(actions: Any) -> str | None:
    """What is wrong with a policy's answer, None if it is (n >= 1, 7) actions within the limits."""
    values = np.asarray(actions)
    if values.dtype.kind not in "fiu":
        return f"actions of type {values.dtype}"
    if values.ndim != 2 or not len(values) or values.shape[1] != len(ACTION_NAMES):
        return f"actions of shape {values.shape}, not (n, {len(ACTION_NAMES)})"
    if not np.isfinite(values).all():
        return "actions that are not finite"
    limits = np.array([MAX_TRANSLATION] * 3 + [MAX_ROTATION] * 3 + [1.0]) + 1e-3
    beyond = np.abs(values).max(axis=0) > limits
    if beyond.any():
        at = int(np.flatnonzero(beyond)[0])
        worst = float(np.abs(values[:, at]).max())
        return f"{ACTION_NAMES[at]} of {worst:.3g} is out of range, at most {limits[at]:.3g}"
    return None


# observation.environment_state: privileged simulator state, one float32 each. Positions in metres
# in the robot base frame, quaternions wxyz in it, u and v in [0, 1] of image width and height.
ENVIRONMENT_STATE_NAMES = (
    *(f"source.{k}" for k in ("x", "y", "z", "qw", "qx", "qy", "qz", "u", "v")),
    *(f"target.{k}" for k in ("x", "y", "z", "qw", "qx", "qy", "qz", "u", "v")),
    *(f"gripper.{k}" for k in ("x", "y", "z", "u", "v")),
    "grasped",  # 1 if both fingers hold the source object
    "on_target",  # 1 if the source object rests on the target
    "moved_wrong",  # 1 if another object was moved further than the source, or picked up
    "success",  # 1 if the task's success rule holds at this step
    "phase",  # index into PHASES; -1 unless the scripted expert acts
)

PHASES = ("reach", "lower", "grasp", "lift", "move", "place", "release", "retreat")
