import io

import numpy as np
import pytest
from PIL import Image

from dualvla import config
from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.simulation.environments import reuse
from dualvla.simulation.expert import Expert
from dualvla.simulation.recording import HELD, disturbed, encode, record

PARAMS = config.load("params.yaml").demonstrations
LABEL = np.array([0.01, 0, 0, 0, 0, 0.1, 1], np.float32)


def test_without_noise_the_action_is_executed():
    quiet = PARAMS.model_copy(update={"noise_share": 0.0, "kick_share": 0.0})
    np.testing.assert_allclose(disturbed(LABEL, np.random.default_rng(0), quiet), LABEL, atol=1e-7)


def test_a_kick_has_its_length_and_leaves_the_gripper():
    kicked = PARAMS.model_copy(update={"noise_share": 0.0, "kick_share": 1.0})
    action = disturbed(LABEL, np.random.default_rng(0), kicked)
    assert np.linalg.norm(action[:3] - LABEL[:3]) == pytest.approx(0.015, rel=1e-4)
    assert action[6] == LABEL[6]


def test_noise_of_a_step_does_not_depend_on_its_action():
    one, other = np.random.default_rng(4), np.random.default_rng(4)
    disturbed(LABEL, one, PARAMS)
    disturbed(np.zeros(7, np.float32), other, PARAMS)
    assert one.random() == other.random()


def test_jpeg_keeps_colours():
    image = np.zeros((32, 32, 3), np.uint8)
    image[8:16, 8:16] = (200, 30, 30)
    decoded = np.asarray(Image.open(io.BytesIO(encode(image))))
    assert np.abs(decoded.astype(int) - image).max() < 40


@pytest.mark.sim
def test_a_demonstration_is_a_function_of_seed_and_attempt():
    environment, expert = reuse("stack", "generated", 64), Expert("generated")
    one, two, again = (record(environment, expert, PARAMS, 0, n) for n in (0, 1, 0))
    assert one is not None
    assert two is not None
    assert one.images == again.images
    np.testing.assert_array_equal(one.actions, again.actions)
    np.testing.assert_array_equal(one.environment_states, again.environment_states)
    assert not np.array_equal(one.environment_states[0], two.environment_states[0])
    success = one.environment_states[:, ENVIRONMENT_STATE_NAMES.index("success")]
    assert success[-HELD:].all()
    assert (one.environment_states[:, ENVIRONMENT_STATE_NAMES.index("phase")] >= 0).all()
    assert len(one.images) == len(one.states) == len(one.controllers) == len(one.actions)
    assert one.distractors == two.distractors == ()


@pytest.mark.sim
@pytest.mark.slow
def test_a_share_of_demonstrations_has_distractors():
    environment, expert = reuse("stack", "generated", 64), Expert("generated")
    cluttered = PARAMS.model_copy(update={"distractor_share": 1.0})
    made = [record(environment, expert, cluttered, 0, number) for number in range(3)]
    assert all(one.distractors for one in made if one is not None)
    assert sum(one is not None for one in made) >= 2
    assert environment.step(LABEL, render=False).instruction == environment.spec.instruction
