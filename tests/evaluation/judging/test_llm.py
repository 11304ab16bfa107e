import dataclasses
import json

import pytest
from judge_endpoint import GOOD_SPEAKING, good, look, message, say

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation.judging import frames, rubric
from dualvla.evaluation.judging.cache import ROOT
from dualvla.evaluation.judging.llm import LlmJudge

# A changed text needs a new version, and its hash here.
RUBRICS = {1: "128d64c2294a192e0068ddbfe3aa1594d7e71296c9bd64347cf6575c3a1e85e2"}


def test_a_rubric_does_not_change_under_its_version():
    found = rubric.current()
    assert RUBRICS[found.version] == found.sha256
    assert not found.text.startswith("version")


def test_a_case_is_shown_with_command_texts_motion_and_pictures(case, endpoint):
    asked, server, _ = endpoint(good)
    LlmJudge(asked, frames=5)([case()], True)
    system, user = server.requests[0]["messages"]
    assert system["content"] == rubric.current().text
    text = user["content"][0]["text"]
    assert "Command: put carrot on plate" in text
    assert "rule holds" in text
    assert "step 0: subtask: reach for the carrot" in text
    kinds = [part["type"] for part in user["content"][1:]]
    assert kinds == ["text", "image_url"] * 5
    assert user["content"][1]["text"] == "Step 0:"
    schema = server.requests[0]["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False


def test_ratings_are_those_of_the_answer(case, endpoint):
    asked, _, _ = endpoint(good)
    (verdict,) = LlmJudge(asked)([case()], True)
    found = verdict.ratings
    assert (found.reasoning, found.action, found.intention, found.alignment) == (6, 7, 8, 5)
    assert found.failures == ("jerky",)
    (verdict,) = LlmJudge(asked)([case(speaks=False)], False)
    assert (verdict.ratings.reasoning, verdict.ratings.action) == (None, 7)


def test_a_rerun_costs_nothing_and_says_the_same(case, endpoint):
    asked, server, _ = endpoint(good, prices=(1.0, 2.0))
    cases = [case(n) for n in range(5)]
    first = LlmJudge(asked, repeats=3)
    verdicts = first(cases, True)
    count = len(server.requests)
    assert count == 15
    again = LlmJudge(asked, repeats=3)
    assert again(cases, True) == verdicts
    assert len(server.requests) == count
    about = again.about(verdicts)
    assert about == first.about(verdicts)
    assert about["requests"] == 15
    assert about["cost"] == pytest.approx(15 * (1000 * 1.0 + 50 * 2.0) / 1e6)
    assert about["served"] == ["looker-2025"]


def test_the_cache_holds_no_key_and_survives_damage(case, endpoint):
    asked, server, _ = endpoint(good)
    LlmJudge(asked)([case()], True)
    (kept,) = ROOT.rglob("*.json")
    assert "sk-very" not in kept.read_text()
    kept.write_text('{"content": "ha')
    LlmJudge(asked)([case()], True)
    assert len(server.requests) == 2
    assert files.read_json(kept)["served"] == "looker-2025"


@pytest.mark.parametrize("change", ["frames", "model", "case"])
def test_another_question_is_asked_anew(case, endpoint, change):
    asked, server, _ = endpoint(good)
    LlmJudge(asked)([case()], True)
    judge = LlmJudge(asked, frames=4) if change == "frames" else LlmJudge(asked)
    if change == "model":
        judge = LlmJudge(dataclasses.replace(asked, model="another"))
    judge([case(1 if change == "case" else 0)], True)
    assert len(server.requests) == 2


def test_the_median_of_answers_counts_and_their_spread_is_reported(case, endpoint):
    def vary(body):
        low = {"action": 1, "failures": []} if body["seed"] == 0 else {"action": 6 + body["seed"]}
        return say(GOOD_SPEAKING | low)

    asked, server, _ = endpoint(vary)
    judge = LlmJudge(asked, repeats=3)
    verdicts = judge([case()], True)
    assert sorted(request["seed"] for request in server.requests) == [0, 1, 2]
    assert verdicts[0].ratings.action == 7
    assert verdicts[0].ratings.failures == ("jerky",)
    spread = judge.about(verdicts)["spread"]
    assert spread["action"] == pytest.approx(3.786, abs=1e-3)
    assert spread["reasoning"] == 0
    assert LlmJudge(asked).about(LlmJudge(asked)([case()], True))["spread"] is None


FAULTS = {
    "no JSON": lambda body: say("seven, I think"),
    "action": lambda body: say(GOOD_SPEAKING | {"action": 12}),
    "refused: no": lambda body: (200, {}, message(None, refusal="no")),
    "HTTP 500": lambda body: (500, {}, b""),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_an_unanswered_case_is_an_error_with_its_reason_and_the_others_are_rated(
    case, endpoint, reason
):
    def behave(body):
        bad = "Command: bad" in json.dumps(body["messages"])
        return FAULTS[reason](body) if bad else good(body)

    asked, _, _ = endpoint(behave)
    bad = dataclasses.replace(case(1), instruction="bad carrot on plate")
    verdicts = LlmJudge(asked)([case(0), bad, case(2)], True)
    assert [verdict.ratings is None for verdict in verdicts] == [False, True, False]
    assert reason in verdicts[1].error
    assert LlmJudge(asked).about(verdicts)["requests"] > 2


def test_a_case_without_a_film_is_an_error_and_costs_nothing(case, endpoint):
    asked, server, _ = endpoint(good)

    def torn(steps):
        raise frames.UnreadableError("torn.mp4: no picture at step 3")

    blind = [dataclasses.replace(case(), film=film) for film in (None, torn)]
    verdicts = LlmJudge(asked)(blind, True)
    assert [verdict.error for verdict in verdicts] == ["no video", "torn.mp4: no picture at step 3"]
    assert not server.requests


def test_a_refused_key_ends_it_all(case, endpoint):
    asked, server, _ = endpoint(lambda body: (401, {}, b""))
    with pytest.raises(UserError, match="key is refused"):
        LlmJudge(asked)([case(n) for n in range(30)], True)
    assert len(server.requests) < 30


def test_a_judge_that_looks_rates_a_sound_trajectory_high(case, endpoint):
    asked, _, _ = endpoint(look)
    (verdict,) = LlmJudge(asked, frames=12)([case()], True)
    found = verdict.ratings
    assert min(found.reasoning, found.action, found.intention, found.alignment) >= 8
