import numpy as np
import pytest
from judge_endpoint import look

from dualvla.errors import UserError
from dualvla.evaluation.judging import calibration, faults
from dualvla.evaluation.judging.calibration import calibrate, interval, markdown
from dualvla.evaluation.judging.cases import Verdict
from dualvla.evaluation.judging.llm import LlmJudge
from dualvla.evaluation.judging.scoring import by_rules


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_is_the_same_again_and_leaves_the_rest_as_it_is(case, fault):
    sound = case()
    faulty, again = faults.plant(fault, sound), faults.plant(fault, sound)
    assert faulty.clip.texts == again.clip.texts
    assert np.array_equal(faulty.clip.actions, again.clip.actions)
    same_texts = faulty.clip.texts == sound.clip.texts
    same_actions = np.array_equal(faulty.clip.actions, sound.clip.actions)
    assert same_texts == (fault in ("shuffled actions", "wrong object"))
    assert same_actions == (fault != "shuffled actions")
    assert (faulty.instruction == sound.instruction) == (fault != "wrong object")
    if fault == "shuffled actions":
        assert np.array_equal(np.sort(faulty.clip.actions, 0), np.sort(sound.clip.actions, 0))


SAID = "subtask: grasp the carrot ; move: down left close gripper ; carrot at 34 60 ; plate at 80 7"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "contradicting text",
            "subtask: grasp the carrot ; move: up right open gripper ; "
            "carrot at 34 60 ; plate at 80 7",
        ),
        (
            "wrong positions",
            "subtask: grasp the carrot ; move: down left close gripper ; "
            "carrot at 84 10 ; plate at 30 57",
        ),
        (
            "wrong subtask",
            "subtask: let go of the carrot ; move: down left close gripper ; "
            "carrot at 34 60 ; plate at 80 7",
        ),
    ],
)
def test_a_fault_of_text_changes_one_clause(case, fault, expected):
    sound = case()
    last = "subtask: let go of the carrot"
    texts = (SAID, *[None] * (len(sound.clip.texts) - 2), last)
    told = faults._with(sound, texts=texts)
    assert faults.plant(fault, told).clip.texts[0] == expected


def test_prose_is_contradicted_too(case):
    told = faults._with(case(), texts=("I move down to the carrot",) * len(case().clip.texts))
    assert faults.plant("contradicting text", told).clip.texts[0] == "I move up to the carrot"


@pytest.mark.parametrize("fault", ["contradicting text", "wrong positions", "wrong subtask"])
def test_silence_cannot_be_spoiled(case, fault):
    assert faults.plant(fault, case(speaks=False)) is None


def test_the_wrong_object_was_held_in_the_simulator_s_eyes(case):
    clip = faults.plant("wrong object", case()).clip
    assert (clip.source, clip.target) == ("plate", "carrot")
    assert not clip.holds("grasped").any()
    assert not clip.holds("success").any()
    assert clip.holds("moved_wrong")[-1]
    assert not clip.holds("moved_wrong")[0]
    assert np.array_equal(clip.points("target"), case().clip.points("source"))


def require_all_lowered(table, cases):
    assert table["n"] == len(cases)
    assert [row["fault"] for row in table["faults"]] == list(faults.FAULTS)
    for row in table["faults"]:
        assert row["lowered"], row
        assert row["low"] >= 1, row
        assert (row["n"], row["left_out"]) == (len(cases), 0)
    assert min(table["baseline"].values()) >= 8


def test_the_rules_judge_notices_every_planted_fault(case):
    cases = [case(n, every=1 + n % 3) for n in range(8)]
    table = calibrate(by_rules, "rules", cases, "drawn trajectories")
    require_all_lowered(table, cases)
    assert "llm" not in table


def test_an_llm_judge_that_looks_notices_every_planted_fault(case, endpoint):
    asked, server, _ = endpoint(look)
    cases = [case(n, every=1 + n % 2) for n in range(4)]
    table = calibrate(LlmJudge(asked, frames=12), "llm", cases, "drawn trajectories")
    require_all_lowered(table, cases)
    assert table["llm"]["requests"] == len(server.requests) == 4 * (1 + len(faults.FAULTS))
    text = markdown(table)
    assert all(fault in text for fault in faults.FAULTS)
    assert "looker at 127.0.0.1" in text


def test_a_judge_that_does_not_look_notices_nothing(case):
    fixed = by_rules([case()], True)

    def blind(cases, speaks):
        return fixed * len(cases)

    table = calibrate(blind, "blind", [case(n) for n in range(3)], "drawn trajectories")
    assert not any(row["lowered"] for row in table["faults"])
    assert {row["drop"] for row in table["faults"]} == {0.0}


def test_unrated_trajectories_are_left_out_and_counted(case):
    def moody(cases, speaks):
        return [
            Verdict(None, "no JSON") if one.key[2].endswith("1") else by_rules([one], speaks)[0]
            for one in cases
        ]

    table = calibrate(moody, "moody", [case(n) for n in range(4)], "drawn trajectories")
    assert all((row["n"], row["left_out"]) == (3, 1) for row in table["faults"])
    with pytest.raises(UserError, match="1 of 2 trajectories could be rated: no JSON"):
        calibrate(moody, "moody", [case(0), case(1)], "drawn trajectories")


def test_intervals_are_student_s():
    assert interval([]) == (None, None, None)
    assert interval([2.0]) == (2.0, None, None)
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert (low, high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert calibration.interval([3, 3]) == (3.0, 3.0, 3.0)
