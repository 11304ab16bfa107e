"""Layer 2 of the pruning: frames at which the arm changes its motion (DualVLA, data pruning).

The rule is the paper's: the norm of the second difference of the pose exceeds its mean over the
trajectory, or the gripper differs on the two sides of the frame. What the paper leaves open is
decided here: angles are wrapped before differencing; metres and radians are each divided by their
deviation over the trajectory, else one unit drowns the other; second differences below what an arm
can be told to do are zero, else a steady motion, whose mean is rounding noise, would be all events.
The pose is the measured one, so that imported robot data is treated like simulated data.
"""

import numpy as np
from numpy.typing import NDArray

# Second differences below these are noise of measurement or of float32.
STILL_METRES = 1e-4
STILL_RADIANS = 1e-3
# Deviations below these do not scale: a wrist that hardly turns must not count like one that does.
LEAST_METRES = 5e-3
LEAST_RADIANS = 5e-2
# Fingers that travel less, of their whole travel, have neither closed nor opened.
LEAST_OPENING = 0.1
# A change of the gripper counts as an acceleration of this many means, for ranking frames.
GRIPPER_SCORE = 2.0

Floats = NDArray[np.float64]


def action_scores(states: NDArray[np.floating], low: float, high: float) -> Floats:
    """Score of every frame of one trajectory; a frame is an event where it exceeds 1.

    Args:
        states: (T, 7) conventions.STATE_NAMES: metres, Euler XYZ radians, opening in [0, 1].
        low: share of the opening's range below which an open gripper becomes closed.
        high: share of it above which a closed gripper becomes open.

    Returns:
        (T,) norm of the scaled second difference over its mean; at least `GRIPPER_SCORE` where the
        gripper differs on the two sides.
    """
    poses: Floats = np.asarray(states[:, :6], np.float64)
    norms = np.linalg.norm(_scaled(poses), axis=1)
    inner = norms[1:-1]
    mean = float(inner.mean()) if len(inner) else 0.0
    scores = norms / mean if mean > 0 else np.zeros(len(states))
    changed = gripper_changes(states[:, 6], low, high)
    return np.where(changed, np.maximum(scores, GRIPPER_SCORE), scores)


def action_events(states: NDArray[np.floating], low: float, high: float) -> NDArray[np.bool_]:
    """The second label of every frame: (T,) True at an event; arguments as `action_scores`."""
    return action_scores(states, low, high) > 1.0


def second_differences(poses: NDArray[np.floating]) -> Floats:
    """Central second differences of (T, 6) poses, angles wrapped; 0 at both ends."""
    steps = np.diff(np.asarray(poses, np.float64), axis=0)
    steps[:, 3:] = wrap(steps[:, 3:])
    second = np.zeros((len(poses), 6))
    second[1:-1] = np.diff(steps, axis=0)
    return second


def wrap(angles: NDArray[np.floating]) -> Floats:
    """Angles in [-pi, pi), radians."""
    return (np.asarray(angles, np.float64) + np.pi) % (2 * np.pi) - np.pi


def is_open(opening: NDArray[np.floating], low: float, high: float) -> NDArray[np.bool_]:
    """Gripper as open or closed with hysteresis: (T,) from openings in [0, 1].

    Between `low` and `high` it stays what it was; at the start it is open above their middle.
    """
    opening = np.asarray(opening, np.float64)
    states = np.empty(len(opening), bool)
    now = bool(len(opening) and opening[0] > (low + high) / 2)
    for frame, value in enumerate(opening):
        now = value >= low if now else value > high
        states[frame] = now
    return states


def gripper_changes(opening: NDArray[np.floating], low: float, high: float) -> NDArray[np.bool_]:
    """Frames whose two neighbours differ in the binary gripper: (T,), as in the paper.

    Openings are first spread over the trajectory's own range: fingers that hold a thing stay as far
    apart as the thing is wide, which may be most of the way.
    """
    opening = np.asarray(opening, np.float64)
    if not len(opening) or np.ptp(opening) < LEAST_OPENING:
        return np.zeros(len(opening), bool)
    states = is_open((opening - opening.min()) / np.ptp(opening), low, high)
    padded = np.concatenate([states[:1], states, states[-1:]])
    return padded[2:] != padded[:-2]


def _scaled(poses: Floats) -> Floats:
    """Second differences over the trajectory's deviation, in units of that deviation."""
    second = second_differences(poses)
    turns = np.cumsum(wrap(np.diff(poses[:, 3:], axis=0, prepend=poses[:1, 3:])), axis=0)
    parts = (
        (slice(0, 3), poses[:, :3], STILL_METRES, LEAST_METRES),
        (slice(3, 6), turns, STILL_RADIANS, LEAST_RADIANS),
    )
    for columns, path, still, least in parts:
        size = np.linalg.norm(second[:, columns], axis=1, keepdims=True)
        deviation = np.sqrt(((path - path.mean(0)) ** 2).sum(1).mean()) if len(path) else 0.0
        second[:, columns] *= (size > still) / max(float(deviation), least)
    return second
