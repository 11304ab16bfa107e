"""Views and votes: what lies between an environment and a policy in a published protocol.

A camera's picture may be cropped before a policy sees it, and the actions that several decisions
predicted for one moment may be averaged. Both are parts of a protocol, not of a policy: the same
checkpoint scores differently with and without, so they wrap any policy and are written down beside
the result. The adaptive weights are CogACT's (Li et al. 2024, arXiv 2411.19650, section 3.4):
exp(alpha cos(a, b)) of each older prediction b with the newest a, so that an average never mixes
two different ways of doing a thing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dualvla.interface import Decision, FloatArray, ImageArray, Observation, Policy

TINY = 1e-7  # of a norm: no direction


def cropped(image: ImageArray, share: float) -> ImageArray:
    """The middle `share` of a picture's height and width, in (0, 1]."""
    height, width = image.shape[:2]
    rows, columns = round(height * share), round(width * share)
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(image[top : top + rows, left : left + columns])


def adaptive(predictions: FloatArray, alpha: float) -> FloatArray:
    """One action (7,) of predictions (n, 7) for the same moment, the newest last.

    Args:
        predictions: motions and gripper; the gripper is a vote, a tie is the newest's.
        alpha: how much agreement with the newest counts; 0 is the plain mean.
    """
    values = predictions.astype(np.float64)
    newest = values[-1]
    norms = np.linalg.norm(values, axis=1) * np.linalg.norm(newest)
    weights = np.exp(alpha * (values @ newest) / (norms + TINY))
    action = weights @ values / weights.sum()
    action[6] = np.sign(action[6]) if abs(action[6]) > TINY else newest[6]
    return action.astype(np.float32)


class Protocolled:
    """A policy seen through a protocol: cropped pictures, averaged actions.

    Args:
        policy: the policy itself.
        crop: middle share of the picture it sees; None: all of it.
        window: decisions whose predictions are averaged, one action executed a decision; None: none
            are.
        alpha: of `adaptive`.
    """

    def __init__(
        self, policy: Policy, *, crop: float | None, window: int | None, alpha: float
    ) -> None:
        self.policy, self.crop, self.window, self.alpha = policy, crop, window, alpha
        self.convention = policy.convention
        self._chunks: dict[int, deque[FloatArray]] = {}  # of the last decisions, newest last

    def reset(self, slot: int, instruction: str, seed: int) -> None:
        """Forget the slot's episode."""
        self._chunks[slot] = deque(maxlen=self.window)
        self.policy.reset(slot, instruction, seed)

    def act(self, slots: Sequence[int], observations: Sequence[Observation]) -> list[Decision]:
        """One decision a slot."""
        decisions = self.policy.act(slots, [self._seen(one) for one in observations])
        if self.window is None:
            return decisions
        return [self._voted(slot, one) for slot, one in zip(slots, decisions, strict=True)]

    def _seen(self, observation: Observation) -> Observation:
        if self.crop is None or observation.image is None:
            return observation
        return replace(observation, image=cropped(observation.image, self.crop))

    def _voted(self, slot: int, decision: Decision) -> Decision:
        newest = np.asarray(decision.actions, np.float32)
        if newest.ndim != 2 or newest.shape[1:] != (7,) or not len(newest):
            return decision  # no actions at all: for the rollout to refuse
        chunks = self._chunks[slot]
        chunks.append(newest)
        ages = range(len(chunks) - 1, -1, -1)
        now = [chunk[age] for age, chunk in zip(ages, chunks, strict=True) if age < len(chunk)]
        return replace(decision, actions=adaptive(np.stack(now), self.alpha)[None])
