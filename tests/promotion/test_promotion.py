"""Who may become production: decided from results planted in published versions."""

import dataclasses
import hashlib
import json

import numpy as np
import published_runs
import pytest
from published_runs import MODEL

from dualvla import config
from dualvla.errors import UserError
from dualvla.evaluation import statistics
from dualvla.promotion import page, proposals
from dualvla.promotion.decision import compared, decide
from dualvla.promotion.evidence import Evidence
from dualvla.store import aliases, client, registry, versions

BROKEN = {"suite": "pruned", "subject": None, "success": False}
SETTINGS = config.Promotion(margin=0.1, qa_margin=0.05, score_margin=0.1, canary="required")


@pytest.fixture
def where(s3_root, request):
    bucket = "p" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:40]
    place = client.place(config.Store(endpoint=None, bucket=bucket, region="us-east-1"), s3_root)
    client.check(place, create=True)
    return place


@pytest.fixture
def publish(where, tmp_path, monkeypatch):
    """A function that publishes a run's model and returns the version's name."""

    def make(name: str, **planted: object) -> str:
        planted = {"weights": name.encode(), **planted}
        folder = published_runs.build(tmp_path / name, monkeypatch, **planted)
        done = registry.publish(where, folder, MODEL, run=f"retrain/{name}", commit="abc1234")
        return done.prefix.rpartition("/")[2]

    return make


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A function that makes the evidence of a run that was not published."""

    def make(name: str, **planted: object) -> Evidence:
        return published_runs.evidence(
            published_runs.build(tmp_path / name, monkeypatch, **planted)
        )

    return make


@pytest.fixture
def promote(where, tmp_path):
    """A function that decides about a version and carries it out."""

    def carry_out(version: str, settings: config.Promotion = SETTINGS, **more: object):
        proposal = proposals.propose(where, MODEL, version, settings)
        return proposal.decision, proposals.carry_out(where, proposal, tmp_path, **more)

    return carry_out


def states(decision) -> dict[str, str]:
    return {check["check"]: check["state"] for check in decision["checks"]}


def production(where) -> str | None:
    return aliases.read(where, MODEL, "production").version


def test_the_first_is_accepted_then_an_equal_one_and_a_worse_one_is_refused(
    where, publish, promote, tmp_path
):
    first, equal, worse = publish("first"), publish("equal"), publish("worse", lost=0.4)
    decision, moved = promote(first)
    assert moved is not None
    assert states(decision)["success"] == "skipped"
    decision, moved = promote(equal)
    assert decision["accepted"]
    assert set(states(decision).values()) == {"passed"}
    assert production(where) == equal
    decision, moved = promote(worse)
    assert (decision["accepted"], moved) == (False, None)
    assert states(decision)["success, official starts"] == "failed"
    assert states(decision)["questions"] == "passed"
    assert production(where) == equal

    text = page.markdown(decision)
    assert f"# dualvla {worse} is refused: success, official starts" in text
    assert "shown to be worse" in text or "a greater loss than the margin" in text
    keys = [
        entry["Key"]
        for entry in client.connect(where).list_objects_v2(
            Bucket=where.bucket, Prefix=f"registry/{MODEL}/decisions/"
        )["Contents"]
    ]
    assert len(keys) == 6
    local = sorted(path.name for path in (tmp_path / proposals.DECISIONS / MODEL).iterdir())
    assert local == sorted(key.rpartition("/")[2] for key in keys)
    refused, _ = versions.get_json(client.connect(where), where, sorted(keys)[-2])
    assert (refused["candidate"], refused["promote"]) == (worse, False)
    # Each move names its decision, and a rollback undoes the last one.
    move = aliases.read(where, MODEL, "production").history[-1]
    assert json.loads(json.dumps(move))["why"] == sorted(keys)[2]
    assert aliases.rollback(where, MODEL).version == first


def test_forgotten_answers_refuse_a_model_that_acts_as_well(measured):
    decision = decide(MODEL, measured("forgot", forgotten=0.3), measured("first"), SETTINGS)
    assert [name for name, state in states(decision).items() if state == "failed"] == ["questions"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 1}, "seed is 1, for production 0"),
        ({"assets": "official"}, "assets is 'official', for production 'generated'"),
        ({"protocol": {"hash": "x"}}, "protocol is .*'x'.*, for production"),
    ],
)
def test_results_of_other_conditions_are_bad_input(measured, changed, says):
    with pytest.raises(UserError, match=f"evaluate: {says}"):
        decide(MODEL, measured("other", **changed), measured("first"), SETTINGS)


def test_scores_of_two_judges_are_bad_input(measured):
    one, other = (
        dataclasses.replace(found, scoring={**found.scoring, "llm": {"model": name}})
        for found, name in ((measured("one"), "large"), (measured("two"), "small"))
    )
    with pytest.raises(UserError, match="judge: model is 'large', for production 'small'"):
        decide(MODEL, one, other, SETTINGS)


def test_a_trajectory_that_was_not_rated_is_no_pair_and_excuses_nothing(measured):
    one, other = measured("one"), measured("two")
    one.scores["score"] = other.scores["score"].to_numpy() - 0.5
    one.scores.loc[one.scores.index[0], ["score", "status"]] = [None, "error"]
    decision = decide(MODEL, one, other, SETTINGS)
    (check,) = [found for found in decision["checks"] if found["check"] == "VLA Score"]
    assert (check["state"], check["n"]) == ("failed", len(other.scores) - 1)
    assert check["difference"] == pytest.approx(-0.5)


def test_other_starts_or_questions_are_bad_input(measured):
    one, other = measured("one"), measured("two")
    fewer = dataclasses.replace(other, episodes=other.episodes.iloc[1:])
    with pytest.raises(UserError, match="did not run the same episodes"):
        decide(MODEL, one, fewer, SETTINGS)
    others = dataclasses.replace(other, answers=other.answers.assign(question="another"))
    with pytest.raises(UserError, match="not asked the same questions"):
        decide(MODEL, one, others, SETTINGS)


def test_a_new_protocol_is_judged_against_productions_weights_under_it(where, publish, promote):
    promote(publish("old", weights=b"production"))
    again = publish("again", weights=b"production", execute=2)
    candidate = publish("new", weights=b"new", execute=2)
    decision, moved = promote(candidate)
    assert decision["incumbent"] == again
    assert moved is not None


def test_episodes_of_the_candidate_that_crashed_count_as_lost(measured):
    one, other = measured("one"), measured("two")
    won = one.episodes.index[one.episodes["last_step"].fillna(False)][:30]
    one.episodes.loc[won, "status"] = "error"
    decision = decide(MODEL, one, other, SETTINGS)
    assert states(decision)["success, official starts"] == "failed"
    assert decision["comparisons"][0]["second_only"] == 30
    assert one.episodes.loc[won, "status"].eq("error").all(), "the evidence was changed"


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"gates": [BROKEN]}, "quality gates", "not green: pruned"),
        ({"gates": []}, "quality gates", "none was recorded"),
        ({"canary": None}, "canary", "none was recorded"),
        ({"canary": {"passed": False, "remark": "stood", "episodes": 8}}, "canary", "stood"),
    ],
)
def test_gates_and_canary_must_be_there_and_green(measured, change, check, says):
    candidate = dataclasses.replace(measured("one"), **change)
    decision = decide(MODEL, candidate, None, SETTINGS)
    failed = [one for one in decision["checks"] if one["state"] == "failed"]
    assert [one["check"] for one in failed] == [check]
    assert says in failed[0]["remark"]


def test_a_canary_is_left_out_only_where_the_parameter_says_so(measured):
    lenient = SETTINGS.model_copy(update={"canary": "skipped"})
    candidate = dataclasses.replace(measured("one"), canary=None)
    assert decide(MODEL, candidate, None, lenient)["accepted"]


def test_too_few_pairs_show_nothing_and_refuse(measured):
    few = [
        dataclasses.replace(one, episodes=one.episodes.groupby("task").head(2))
        for one in (measured("one"), measured("two"))
    ]
    decision = decide(MODEL, *few, SETTINGS)
    assert states(decision)["success, official starts"] == "failed"


@pytest.mark.parametrize(
    ("pairs", "margin", "accepted"), [(20, 0.05, False), (400, 0.05, True), (400, 0.005, False)]
)
def test_equal_models_pass_once_there_are_pairs_enough_for_the_margin(pairs, margin, accepted):
    won = np.arange(pairs) % 10 < 6
    other = np.roll(won, 1)
    difference, low, high = statistics.paired_difference(won, other)
    row = {"n": pairs, "difference": difference, "low": low, "high": high}
    state = compared("success", row, margin)["state"]
    assert (state == "passed") == (low > -margin)
    one = np.ones(pairs, bool)
    difference, low, high = statistics.paired_difference(one, one)
    row = {"n": pairs, "difference": difference, "low": low, "high": high}
    assert (compared("success", row, margin)["state"] == "passed") == accepted


def test_a_small_loss_that_is_shown_is_refused_within_the_margin():
    row = {"n": 4000, "difference": -0.03, "low": -0.05, "high": -0.01}
    check = compared("success", row, 0.1)
    assert (check["state"], check["remark"]) == ("failed", "shown to be worse")


def test_results_of_other_weights_are_refused(where, publish):
    version = publish("one", policy={"kind": "checkpoint", "fingerprint": "of-another"})
    with pytest.raises(UserError, match="of other weights"):
        proposals.propose(where, MODEL, version, SETTINGS)


def test_what_is_production_already_is_told(publish, promote):
    version = publish("one")
    promote(version)
    with pytest.raises(UserError, match="is production already"):
        promote(version)


def test_a_person_may_say_no_and_the_faster_of_two_wins(where, publish, promote, tmp_path):
    version = publish("one")
    no = {"approved": False, "who": "ann", "why": "not on a Friday"}
    assert promote(version, approval=no)[1] is None
    two = [proposals.propose(where, MODEL, version, SETTINGS) for _ in range(2)]
    yes = {**no, "approved": True}
    assert proposals.carry_out(where, two[0], tmp_path, approval=yes).version == version
    with pytest.raises(aliases.MovedError):
        proposals.carry_out(where, two[1], tmp_path)
    written = max((tmp_path / proposals.DECISIONS / MODEL).glob("*.md")).read_text()
    assert "Approved by" not in written
