import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.conventions import PHASES
from dualvla.data import language
from dualvla.evaluation.speech import VERBS, claims

TEXT = "subtask: grasp the green cube ; move: down left ; green cube at 34 60 ; plate at 80 21"


def test_the_annotations_form_is_read_in_full():
    found = claims(TEXT)
    assert found.phases == {"lower", "grasp"}
    assert found.things == ("green cube",)
    assert found.direction == (0, 1, -1)
    assert found.places == {"green cube": (0.34, 0.60), "plate": (0.80, 0.21)}
    assert found.moves
    assert not found.empty


@pytest.mark.parametrize(
    ("move", "direction", "turn", "still", "gripper"),
    [
        ("up close gripper", (0, 0, 1), 0, False, "close"),
        ("turn left", None, 1, False, None),
        ("forward turn right", (1, 0, 0), -1, False, None),
        ("hold still", None, 0, True, None),
        ("open gripper", None, 0, False, "open"),
        ("left right", None, 0, False, None),
    ],
)
def test_moves_are_read_apart(move, direction, turn, still, gripper):
    found = claims(f"subtask: lift the carrot ; move: {move} ; carrot at 1 2")
    assert (found.direction, found.turn) == (direction, turn)
    assert (found.still, found.gripper) == (still, gripper)


def test_prose_is_searched_for_the_same_words():
    found = claims("I will now pick up the Carrot at (34, 60), so the arm goes down.")
    assert found.phases == {"lower", "grasp"}
    assert found.places == {"carrot": (0.34, 0.60)}
    assert found.direction == (0, 0, -1) or found.direction is None


@pytest.mark.parametrize("text", [None, "", "the weather is nice today", "42"])
def test_a_text_without_claims_is_empty(text):
    assert claims(text).empty


@given(st.text())
def test_any_text_can_be_read(text):
    assert claims(text).phases <= set(PHASES)


def test_every_reasoning_text_of_the_annotations_claims_a_subtask():
    texts = [text for text in language.lexicon() if text.startswith("subtask:")]
    assert texts
    for text in texts:
        assert claims(text).phases, text
        assert claims(text).moves, text


def test_verbs_mean_known_phases():
    assert set().union(*VERBS.values()) <= set(PHASES)
