import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.evaluation import judges


@pytest.fixture(scope="module")
def perfect(clip):
    return clip()


def retold(clip, change):
    return dataclasses.replace(clip, texts=tuple(change(text) for text in clip.texts))


def with_state(clip, name, value):
    environment = clip.environment.copy()
    environment[:, ENVIRONMENT_STATE_NAMES.index(name)] = value
    return dataclasses.replace(clip, environment=environment)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_perfect_trajectory_has_full_marks(clip, every):
    found = judges.rules(clip(every=every), True)
    assert min(found.action, found.intention) == 10
    assert min(found.reasoning, found.alignment) >= 9
    assert found.failures == ()


def test_the_specialist_scale_has_no_ratings_of_text(perfect):
    found = judges.rules(perfect, False)
    assert found.reasoning is None
    assert found.alignment is None
    assert found.action == judges.rules(perfect, True).action


@given(st.integers(0, 1000))
def test_shuffled_actions_lower_the_action_rating_alone(perfect, seed):
    order = np.random.default_rng(seed).permutation(len(perfect.actions))
    fault = judges.rules(dataclasses.replace(perfect, actions=perfect.actions[order]), True)
    assert fault.action <= 8
    assert fault.intention >= 9


def test_a_trembling_arm_lowers_the_action_rating(perfect):
    noise = np.random.default_rng(0).normal(0, 0.02, perfect.actions.shape) * [1, 1, 1, 0, 0, 0, 0]
    shaken = dataclasses.replace(perfect, actions=perfect.actions + noise)
    assert judges.rules(shaken, True).action <= 7


def test_an_arm_that_does_nothing_is_named(perfect):
    idle = dataclasses.replace(
        perfect,
        actions=np.zeros_like(perfect.actions),
        environment=np.repeat(perfect.environment[:1], len(perfect.environment), axis=0),
    )
    found = judges.rules(idle, True)
    assert (found.action, found.intention) == (0, 0)
    assert {"no motion", "never grasped"} <= set(found.failures)


def test_moving_a_wrong_object_lowers_the_intention_rating(perfect):
    found = judges.rules(with_state(perfect, "moved_wrong", 1), True)
    assert found.intention <= 3
    assert found.action == 10
    assert "wrong object" in found.failures


def test_grasping_at_the_wrong_object_lowers_the_intention_rating(perfect):
    swapped = perfect.environment.copy()
    at = ENVIRONMENT_STATE_NAMES.index
    for axis in ("x", "y", "z"):
        source, target = at(f"source.{axis}"), at(f"target.{axis}")
        swapped[:, [source, target]] = np.tile(
            perfect.environment[0, [target, source]], (len(swapped), 1)
        )
    swapped[:, [at("grasped"), at("success"), at("on_target")]] = 0
    found = judges.rules(dataclasses.replace(perfect, environment=swapped), True)
    assert found.intention <= 3
    assert {"wrong object", "never grasped"} <= set(found.failures)


def test_an_object_let_go_on_the_way_is_dropped(perfect):
    environment = perfect.environment.copy()
    at = ENVIRONMENT_STATE_NAMES.index
    held = np.flatnonzero(environment[:, at("grasped")] > 0)
    lost = held[len(held) // 3]
    for axis in "xy":
        environment[lost:, at(f"source.{axis}")] = environment[lost, at(f"source.{axis}")]
    environment[lost:, [at("grasped"), at("success"), at("on_target")]] = 0
    found = judges.rules(dataclasses.replace(perfect, environment=environment), True)
    assert "dropped" in found.failures
    assert found.intention < 8


CONTRADICTIONS = {
    "positions": lambda text: re.sub(r"at \d+ \d+", "at 2 2", text),
    "thing": lambda text: text.replace("the carrot", "the spoon"),
    "swapped": lambda text: (
        text.replace("carrot", "#").replace("plate", "carrot").replace("#", "plate")
    ),
    "done": lambda text: "subtask: let go of the carrot ; move: up",
    "nonsense": lambda text: "the weather is nice today",
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_text_that_contradicts_the_scene_lowers_the_reasoning_rating(perfect, name):
    found = judges.rules(retold(perfect, CONTRADICTIONS[name]), True)
    assert found.reasoning <= 7
    assert (found.action, found.intention) == (10, 10)


OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "forward": "backward"}


@pytest.mark.parametrize("name", ["opposite", "swapped", "done", "nonsense"])
def test_a_text_that_contradicts_the_motion_lowers_the_alignment_rating(perfect, name):
    def opposite(text):
        return " ".join(OPPOSITE.get(word, word) for word in text.split())

    change = opposite if name == "opposite" else CONTRADICTIONS[name]
    found = judges.rules(retold(perfect, change), True)
    assert found.alignment <= 7
    assert (found.action, found.intention) == (10, 10)


def test_silence_is_judged_by_the_last_text_and_never_by_another_episode_s(clip, perfect):
    first = dataclasses.replace(
        perfect, texts=(perfect.texts[0], *[None] * (len(perfect.texts) - 1))
    )
    kept = dataclasses.replace(perfect, texts=(perfect.texts[0],) * len(perfect.texts))
    wrote = np.arange(len(perfect.texts)) == 0
    first, kept = (dataclasses.replace(told, wrote=wrote) for told in (first, kept))
    assert judges.rules(first, True) == judges.rules(kept, True)
    silent = judges.rules(clip(speaks=False), True)
    assert (silent.reasoning, silent.alignment) == (0, 0)
    assert "silent" in silent.failures


@given(st.integers(0, 200), st.integers(1, 30))
def test_any_trajectory_gets_integers_from_0_to_10(seed, count):
    rng = np.random.default_rng(seed)
    environment = rng.normal(size=(count + 1, len(ENVIRONMENT_STATE_NAMES)))
    words = np.array(["carrot at 3 4", "move: up", "grasp the carrot", "zzz", None], object)
    flags = rng.random((2, count)) < 0.5
    clip = judges.Clip(
        source="carrot",
        target="plate",
        actions=rng.normal(size=(count, 7)),
        environment=environment,
        yaw=rng.normal(size=count + 1),
        decided=flags[0],
        wrote=flags[0] & flags[1],
        texts=tuple(rng.choice(words, count)),
    )
    found = judges.rules(clip, True)
    for rating in (found.reasoning, found.action, found.intention, found.alignment):
        assert isinstance(rating, int)
        assert 0 <= rating <= 10
