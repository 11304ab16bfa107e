from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dualvla.conventions import WIDOWX_SIMULATION
from dualvla.evaluation import ensembling
from dualvla.interface import Decision, Observation

PREDICTIONS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 7), st.just(7)), elements=st.floats(-1, 1, width=32)
)


class Scripted:
    """Answers the chunks it is given, and remembers what it was shown."""

    convention = WIDOWX_SIMULATION

    def __init__(self, chunks):
        self.chunks, self.shown = list(chunks), []

    def reset(self, slot, instruction, seed):
        pass

    def act(self, slots, observations):
        self.shown += observations
        return [Decision(np.asarray(self.chunks.pop(0), np.float32), "text", 3) for _ in slots]


def seen(size=(48, 64)):
    zeros = np.zeros(7, np.float32)
    image = np.arange(size[0] * size[1] * 3, dtype=np.int64).reshape(*size, 3).astype(np.uint8)
    return Observation(image, zeros, zeros[:6], np.zeros(1, np.float32), "put")


def chunk(*values, gripper=1.0):
    """A chunk of len(values) actions that move along x."""
    actions = np.zeros((len(values), 7))
    actions[:, 0], actions[:, 6] = values, gripper
    return actions


@given(PREDICTIONS, st.floats(0, 1))
def test_an_average_lies_within_what_was_predicted(predictions, alpha):
    action = ensembling.adaptive(predictions, alpha)
    low, high = predictions.min(axis=0) - 1e-6, predictions.max(axis=0) + 1e-6
    assert (action[:6] >= low[:6]).all()
    assert (action[:6] <= high[:6]).all()


@given(PREDICTIONS)
def test_without_weight_on_agreement_it_is_the_mean(predictions):
    action = ensembling.adaptive(predictions, 0.0)
    np.testing.assert_allclose(action[:6], predictions.mean(axis=0)[:6], atol=1e-5)


def test_weights_are_those_of_the_paper():
    old, new = np.array([-1.0, 0, 0, 0, 0, 0, 1]), np.array([1.0, 0, 0, 0, 0, 0, 1])
    cosine = float(old @ new / 2)
    one, other = np.exp(0.1 * cosine), np.exp(0.1)
    action = ensembling.adaptive(np.stack([old, new]).astype(np.float32), 0.1)
    assert action[0] == pytest.approx((other - one) / (other + one), abs=1e-6)


def test_the_predictions_of_several_decisions_for_one_moment_are_averaged():
    policy = Scripted([chunk(0.1, 0.2, 0.3), chunk(0.4, 0.5, 0.6), chunk(0.8, 0.9, 1.0)])
    voted = ensembling.Protocolled(policy, crop=None, window=2, alpha=0.0)
    voted.reset(0, "put", 0)
    given = [voted.act([0], [seen()])[0] for _ in range(3)]
    assert all(decision.actions.shape == (1, 7) for decision in given)
    moved = [float(decision.actions[0, 0]) for decision in given]
    assert moved == pytest.approx([0.1, (0.2 + 0.4) / 2, (0.5 + 0.8) / 2])
    assert (given[0].text, given[0].tokens) == ("text", 3)


def test_the_gripper_is_a_vote_and_a_tie_is_the_newest_s():
    policy = Scripted([chunk(0, 0, 0, gripper=1), chunk(0, 0, gripper=-1), chunk(0, gripper=-1)])
    voted = ensembling.Protocolled(policy, crop=None, window=3, alpha=0.0)
    voted.reset(0, "put", 0)
    assert [float(voted.act([0], [seen()])[0].actions[0, 6]) for _ in range(3)] == [1, -1, -1]


def test_a_reset_forgets_the_episode_before():
    policy = Scripted([chunk(0.1, 0.1), chunk(0.5, 0.5)])
    voted = ensembling.Protocolled(policy, crop=None, window=7, alpha=0.1)
    voted.reset(0, "put", 0)
    voted.act([0], [seen()])
    voted.reset(0, "put", 1)
    assert float(voted.act([0], [seen()])[0].actions[0, 0]) == pytest.approx(0.5)


def test_a_crop_keeps_the_middle_and_leaves_the_state_alone():
    policy = Scripted([chunk(0.1)])
    cropped = ensembling.Protocolled(policy, crop=0.5, window=None, alpha=0.0)
    cropped.reset(0, "put", 0)
    shown = seen()
    cropped.act([0], [shown])
    np.testing.assert_array_equal(policy.shown[0].image, shown.image[12:36, 16:48])
    assert replace(policy.shown[0], image=None) == replace(shown, image=None)
