from dataclasses import replace

import numpy as np
import pytest
import simulated_episodes as simulated
from hypothesis import given
from hypothesis import strategies as st

from dualvla.config import Annotate
from dualvla.conventions import PHASES
from dualvla.data import annotations, phrases
from dualvla.data.annotations import Episode
from dualvla.data.lerobot import ACTION, ENVIRONMENT, STATE
from dualvla.objects import BY_NAME

PARAMS = Annotate(questions=2, rewrites=2, contexts=2)


def episode(index: int = 0, task: str = "put carrot on plate", simulation: bool = True) -> Episode:
    data = simulated.columns(index)
    known = data[ENVIRONMENT] if simulation else None
    return Episode(index, task, data[STATE], data[ACTION], known)


def annotate(made: Episode, seed: int = 0) -> annotations.Annotation:
    return annotations.annotate(made, PARAMS, seed=seed, dataset="d")


def frames_of(phase: str) -> list[int]:
    return [t for t, (name, _, _) in enumerate(simulated.SCRIPT) if name == phase]


def test_moves_say_what_comes_next_in_the_base_frame():
    made = episode()
    moves = annotations.moves(made.states, made.actions)
    assert moves[frames_of("reach")[0]] == "move forward"
    assert moves[frames_of("lower")[0]] == "move down"
    assert moves[frames_of("grasp")[0]] == "close gripper"
    assert moves[frames_of("lift")[0]] == "move up"
    assert moves[frames_of("move")[0]] == "move left"
    assert moves[frames_of("release")[0]] == "open gripper"
    assert moves[-1] == "move up"


def test_small_motion_is_none_and_turns_have_a_side():
    states = np.zeros((6, 7), np.float32)
    states[:, 6] = 1
    actions = np.zeros((6, 7), np.float32)
    actions[:, 6] = 1
    assert set(annotations.moves(states, actions)) == {"hold still"}
    states[:, 5] = np.linspace(3.0, 4.0, 6)  # left, across the wrap
    states[:, 5] = (states[:, 5] + np.pi) % (2 * np.pi) - np.pi
    assert annotations.moves(states, actions)[0] == "turn left"


def test_subtasks_follow_the_experts_phase():
    kinds = annotations.subtasks(episode())
    expected = [phrases.SUBTASK_OF_PHASE[phase] for phase, _, _ in simulated.SCRIPT]
    assert kinds == expected
    assert set(phrases.SUBTASK_OF_PHASE) == set(PHASES)
    assert len(phrases.SUBTASKS) == 6


def test_subtasks_of_imported_data_follow_the_gripper():
    kinds = annotations.subtasks(episode(simulation=False))
    assert list(dict.fromkeys(kinds)) == ["reach", "grasp", "move", "place", "release"]
    assert kinds[frames_of("grasp")[0]] == "grasp"
    assert kinds[frames_of("release")[0]] == "release"


def test_positions_are_percent_of_the_picture_and_hidden_things_are_left_out():
    made = episode()
    command = phrases.parse(made.task)
    u, v = (made.environment[0, simulated.AT[f"source.{axis}"]] for axis in "uv")
    expected = f"carrot at {round(100 * float(u))} {round(100 * float(v))} ; plate at 80 50"
    assert annotations.scenes(made, command)[0] == expected
    outside = made.environment.copy()
    outside[:, simulated.AT["source.u"]] = 1.2
    assert annotations.scenes(replace(made, environment=outside), command)[0] == "plate at 80 50"


def test_annotations_depend_on_seed_and_episode_only():
    first = annotate(episode())
    assert first == annotate(episode())
    others = [annotate(episode(index)) for index in range(1, 12)]
    assert len({(a.rewrites, a.contexts, a.questions) for a in others}) > 6
    assert any(annotate(episode(), seed).rewrites != first.rewrites for seed in range(1, 5))


def test_counts_are_those_asked_for():
    made = annotate(episode())
    assert (len(made.rewrites), len(made.contexts), len(made.questions)) == (2, 2, 2)
    none = Annotate(questions=0, rewrites=0, contexts=0)
    bare = annotations.annotate(episode(), none, seed=0, dataset="d")
    assert bare.rewrites == bare.contexts == bare.questions == ()


def test_answers_are_true():
    made = episode()
    command = phrases.parse(made.task)
    answers = dict(annotations.questions(made, command, np.random.default_rng(0)))
    assert answers["what colour is the carrot?"] == BY_NAME["carrot"].colour
    assert answers["where does the carrot go?"] == "on the plate"
    assert answers["where is the carrot from the plate?"] == "left of"


def test_yes_and_no_are_equally_frequent():
    command = phrases.parse("put carrot on plate")
    said = []
    for seed in range(400):
        found = annotations.questions(episode(), command, np.random.default_rng(seed))
        said += [answer for question, answer in found if question.startswith("is there")]
    assert 0.42 < said.count("yes") / len(said) < 0.58


def test_a_distractor_is_never_said_to_be_missing():
    command = phrases.parse("put carrot on plate")
    made = replace(episode(), distractors=("spoon",))
    said = set()
    for seed in range(200):
        said |= set(annotations.questions(made, command, np.random.default_rng(seed)))
    assert ("is there a spoon on the table?", "yes") in said
    assert ("is there a spoon on the table?", "no") not in said


def test_looks_of_our_objects_are_not_claimed_of_imported_ones():
    made = annotate(episode(simulation=False))
    words = " ".join((*made.rewrites, *made.contexts, made.caption, *sum(made.questions, ())))
    colours = {thing.colour for thing in BY_NAME.values()}
    assert not colours & set(words.split())
    assert set(made.scenes) == {""}


def test_an_episode_without_instruction_has_reasoning_and_no_commands():
    made = annotate(episode(task=" ", simulation=False))
    assert made.rewrites == made.contexts == ()
    assert made.subtasks[0] == "reach for the object"


@pytest.mark.parametrize(
    ("text", "source", "target", "inside"),
    [
        ("put carrot on plate", "carrot", "plate", False),
        ("put the spoon on the towel", "spoon", "towel", False),
        ("stack the green block on the yellow block", "green cube", "yellow cube", False),
        ("put eggplant into yellow basket", "eggplant", "basket", True),
        ("put cup from counter or drying rack into sink", "cup", "sink", True),
        ("flip pot upright which is in sink", "pot", "", False),
        ("Pick up the can and put it in the bin", "can", "bin", True),
        ("", "", "", False),
    ],
)
def test_instructions_are_taken_apart(text, source, target, inside):
    command = phrases.parse(text)
    assert (command.source, command.target, command.inside) == (source, target, inside)


def test_rewrites_say_the_same_and_differ():
    command = phrases.parse("put carrot on plate")
    rewrites = phrases.rewrites(command)
    assert len(rewrites) == len(set(rewrites)) > 50
    assert command.text not in rewrites
    assert "place the orange vegetable on the plate" in rewrites


def test_a_description_fits_one_thing_only():
    for appearance in (True, False):
        said = [d for name in BY_NAME for d in phrases.descriptions(name, appearance=appearance)]
        assert len(said) == len(set(said))


def test_contexts_do_not_give_the_command():
    for task in ("put carrot on plate", "put eggplant into yellow basket"):
        command = phrases.parse(task)
        contexts = phrases.contexts(command)
        assert len(contexts) >= 2
        assert not any(command.source in text.split() for text in contexts)


@given(st.text(max_size=80))
def test_any_instruction_can_be_annotated(text):
    made = annotate(episode(task=text, simulation=False))
    assert all(made.subtasks)
    assert made.plan
