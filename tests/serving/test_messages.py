from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from served import observation, plain_request

from dualvla.conventions import WIDOWX_SIMULATION
from dualvla.errors import UserError
from dualvla.interface import Decision
from dualvla.serving import codec, messages

FACTS = messages.Facts("ours", WIDOWX_SIMULATION, accepts=(messages.CONTROLLER,), chunk=8)
EVERYTHING = replace(FACTS, requires=messages.KEYS, accepts=())
EPISODES = some.builds(
    messages.Episode, some.integers(0, 255), some.integers(0, 2**63 - 1), some.booleans()
)


def passed(message):
    return codec.decode(codec.encode(message))


@settings(deadline=None)
@given(some.integers(0, 99), some.text(), EPISODES)
def test_an_observation_arrives_as_it_was_sent(seed, prompt, episode):
    seen = observation(seed, prompt, size=8)
    message = messages.write_request(seen, EVERYTHING, episode)
    (request,) = messages.read_requests(passed({"batch": [message]}), EVERYTHING.requires)
    assert request.episode == episode
    for name in ("image", "state", "controller", "environment_state"):
        np.testing.assert_array_equal(getattr(request.observation, name), getattr(seen, name))
    assert request.observation.instruction == prompt


@settings(deadline=None)
@given(some.integers(1, 20), some.none() | some.text(), some.integers(0, 999))
def test_a_decision_arrives_as_it_was_made(count, text, tokens):
    made = Decision(
        np.random.default_rng(0).normal(size=(count, 7)).astype(np.float32), text, tokens
    )
    (read,) = messages.read_answers(passed(messages.write_answer(made)), None, "here")
    assert read.actions.tobytes() == made.actions.tobytes()
    assert (read.text, read.tokens) == (text, tokens)


def test_facts_arrive_as_they_were_told():
    facts = replace(FACTS, reason="auto", seed=3, checkpoint="ab", action_horizon=4)
    assert messages.read_facts(passed(messages.write_facts(facts)), "here") == facts


def test_a_policy_that_does_not_ask_for_it_never_gets_the_privileged_state():
    sent = messages.write_request(observation(), FACTS, messages.Episode())
    assert messages.PRIVILEGED not in sent
    plain = messages.write_request(
        observation(), replace(FACTS, accepts=(), ours=False), messages.Episode()
    )
    assert plain.keys() == set(messages.PLAIN)


def test_a_plain_request_stands_for_one_episode_at_the_measured_pose():
    seen = observation()
    more = {"observation/wrist_image": seen.image}
    (request,) = messages.read_requests(passed(plain_request(seen, **more)), messages.PLAIN)
    assert request.episode == messages.Episode(0, 0, None)
    np.testing.assert_array_equal(request.observation.controller, seen.state[:6])
    assert np.isnan(request.observation.environment_state).all()


def test_a_state_may_be_a_list_or_of_another_precision():
    seen = plain_request(observation()) | {"observation/state": [0.5] * 7}
    (request,) = messages.read_requests(seen, messages.PLAIN)
    assert request.observation.state.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "without prompt"),
        ({"prompt": 3}, "prompt: not a text"),
        ({"observation/image": None}, "without observation/image -> this policy reads"),
        ({"observation/image": np.zeros((3, 8, 8), np.uint8)}, "is not .height, width, 3"),
        ({"observation/image": np.zeros((0, 8, 3), np.uint8)}, "is not .height, width, 3"),
        ({"observation/image": np.zeros((5000, 1, 3), np.uint8)}, "is not .height, width, 3"),
        ({"observation/image": np.zeros((8, 8, 3), np.float32)}, "not an array of uint8"),
        ({"observation/image": [[0]]}, "not an array of uint8"),
        ({"observation/state": np.zeros(8)}, "not 7 finite numbers"),
        ({"observation/state": [0, 0, 0, 0, 0, 0, float("nan")]}, "not 7 finite numbers"),
        ({"observation/state": "home"}, "not numbers"),
        ({"observation/state": {"x": 1}}, "not numbers"),
        ({"observation/controller": np.zeros(7)}, "not 6 finite numbers"),
        ({"observation/environment_state": np.zeros(3)}, "environment_state: not"),
        ({"episode": 3}, "episode: not a map"),
        ({"episode": {"slot": 256}}, "slot 256 is not in 0 to 255"),
        ({"episode": {"slot": True}}, "slot True"),
        ({"episode": {"seed": -1}}, "seed -1"),
        ({"episode": {"seed": 2**63}}, "seed 9223372036854775808"),
        ({"episode": {"reset": 1}}, "reset 1"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused(change, message):
    request = plain_request(observation()) | change
    with pytest.raises(UserError, match=message):
        messages.read_requests(request, messages.PLAIN)


@pytest.mark.parametrize("batch", [[], 3, [3], [plain_request(observation())] * 2])
def test_a_bad_batch_is_refused(batch):
    with pytest.raises(UserError):
        messages.read_requests({"batch": batch}, messages.PLAIN)
    with pytest.raises(UserError):
        messages.read_requests(batch, messages.PLAIN)


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        ({}, "declares no action convention"),
        ("hello", "declares no action convention"),
        ({"convention": "widowx"}, "declares no action convention"),
        ({"convention": {"robot": "widowx"}}, "not a convention: .*missing"),
        ({"convention": WIDOWX_SIMULATION.to_json() | {"arm": 2}}, "not a convention: .*arm"),
        (messages.write_facts(FACTS) | {"protocol": 2}, "speaks protocol 2, this is 1"),
        (messages.write_facts(FACTS) | {"requires": ["observation/sound"]}, "unknown observations"),
    ],
)
def test_a_server_that_does_not_say_what_its_actions_mean_is_refused(greeting, message):
    with pytest.raises(UserError, match=f"^ws://there: .*{message}"):
        messages.read_facts(greeting, "ws://there")


def test_what_a_server_says_of_itself_is_its_fingerprint():
    told = messages.write_facts(FACTS)
    assert messages.fingerprint(told) == messages.fingerprint(passed(told))
    assert messages.fingerprint(told) != messages.fingerprint(told | {"seed": 1})
