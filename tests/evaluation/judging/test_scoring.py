import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from judge_endpoint import GOOD_SPEAKING, good, look, say

from dualvla import config
from dualvla.errors import UserError
from dualvla.evaluation import vla_score
from dualvla.evaluation.judging import cases, frames, knowledge, scoring
from dualvla.evaluation.judging.llm import LlmJudge


@pytest.fixture(scope="module")
def settings():
    def make(**changes):
        score = config.load(Path(__file__).parents[3] / "params.yaml").score
        return score.model_copy(update=changes)

    return make


def test_what_is_read_is_what_was_written(case, evaluation, tmp_path):
    written = [case(n, every=2) for n in range(3)]
    found = cases.read(evaluation(tmp_path / "dualvla", written, films=2, crashed=1))
    assert (found.crashed, found.episodes) == (1, 4)
    assert [one.film is None for one in found.cases] == [False, False, True]
    for before, after in zip(written, found.cases, strict=True):
        assert (before.key, before.success) == (after.key, after.success)
        assert before.instruction == after.instruction
        assert before.clip.texts == after.clip.texts
        assert np.array_equal(before.clip.actions, after.clip.actions)
        assert np.array_equal(before.clip.decided, after.clip.decided)


def test_frames_of_a_video_are_the_pictures_without_the_caption(case, evaluation, tmp_path):
    one = case()
    found = cases.read(evaluation(tmp_path / "dualvla", [one])).cases[0]
    steps = frames.spread(len(one.clip.environment), 4)
    assert steps[0] == 0
    assert steps[-1] == len(one.clip.environment) - 1
    for shown, drawn in zip(found.film(steps[::-1]), one.film(steps[::-1]), strict=True):
        assert shown.shape == (320, 320, 3)
        small = shown.reshape(20, 16, 20, 16, 3).mean(axis=(1, 3))
        expected = drawn.reshape(20, 5, 20, 5, 3).mean(axis=(1, 3))
        assert np.abs(small - expected).mean() < 6


def test_a_torn_or_short_film_is_unreadable(case, evaluation, tmp_path):
    folder = evaluation(tmp_path / "dualvla", [case()])
    (video,) = (folder / "videos").glob("*.mp4")
    with pytest.raises(frames.UnreadableError, match="no picture at step 500"):
        frames.of_video(video, [0, 500])
    video.write_bytes(video.read_bytes()[:100])
    with pytest.raises(frames.UnreadableError):
        frames.of_video(video, [0])


def test_an_episode_without_a_film_is_an_error_and_no_zero(
    case, evaluation, endpoint, settings, tmp_path
):
    folder = evaluation(tmp_path / "dualvla", [case(n) for n in range(4)], films=3, crashed=1)
    asked, _, _ = endpoint(good)
    scored = scoring.rate(folder, "dualvla", settings(judge="llm"), LlmJudge(asked))
    assert (scored.summary["n"], scored.summary["errors"]) == (3, 2)
    assert scored.summary["llm"]["unrated"] == {"no video": 1}
    lost = scored.scores.set_index("start_id").loc["official-03"]
    assert (lost["status"], lost["error"]) == ("error", "no video")
    assert lost[[*vla_score.RATINGS, "score"]].isna().all()
    assert scored.summary["score"] == pytest.approx((0.6 + 0.7 * 0.8) / 2 * 0.5)


def test_the_summary_says_who_judged_by_what_at_what_cost(
    case, evaluation, endpoint, settings, tmp_path
):
    folder = evaluation(tmp_path / "dualvla", [case(n) for n in range(2)])
    asked, _, _ = endpoint(good, prices=(2.0, 8.0))
    judge = LlmJudge(asked, repeats=3, frames=5)
    scored = scoring.rate(folder, "dualvla", settings(judge="llm"), judge)
    about = scored.summary["llm"]
    assert (about["model"], about["repeats"], about["frames"]) == ("looker", 3, 5)
    assert about["requests"] == 6
    assert about["cost"] == pytest.approx(6 * (1000 * 2.0 + 50 * 8.0) / 1e6)
    assert set(about["rubric"]) == {"version", "sha256"}
    scoring.write(scored, tmp_path / "out")
    answers = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 6
    assert json.loads(json.loads(answers[0])["content"]) == GOOD_SPEAKING
    assert "sk-very" not in "".join(p.read_text("latin1") for p in (tmp_path / "out").iterdir())


def test_first_episodes_of_a_task_can_be_enough(case, evaluation, settings, tmp_path):
    found = [case(n, task=task) for task in ("carrot", "spoon") for n in range(3)]
    folder = evaluation(tmp_path / "dualvla", found, films=0)
    scored = scoring.rate(folder, "dualvla", settings(episodes_per_task=2))
    assert scored.scores["task"].tolist() == ["carrot"] * 2 + ["spoon"] * 2
    assert "llm" not in scored.summary
    assert (scored.scores["status"] == "ok").all()


def test_an_evaluation_without_any_film_is_refused_before_anything_is_paid(
    case, evaluation, endpoint, settings, tmp_path
):
    folder = evaluation(tmp_path / "dualvla", [case()], films=0)
    asked, server, _ = endpoint(good)
    with pytest.raises(UserError, match="videos_per_task"):
        scoring.rate(folder, "dualvla", settings(judge="llm"), LlmJudge(asked))
    assert not server.requests


def test_the_judge_of_the_parameters_asks_the_endpoint_of_the_environment(
    case, evaluation, endpoint, settings, tmp_path, monkeypatch
):
    with pytest.raises(UserError, match="DUALVLA_JUDGE_URL"):
        scoring.judge_of(settings(judge="llm"))
    _, server, _ = endpoint(look)
    monkeypatch.setenv("DUALVLA_JUDGE_URL", server.url)
    monkeypatch.setenv("DUALVLA_JUDGE_MODEL", "looker")
    folder = evaluation(tmp_path / "specialist", [case(n, speaks=False) for n in range(2)])
    scored = scoring.rate(folder, "specialist", settings(judge="llm", frames=4))
    assert scored.summary["scale"] == "specialist"
    assert scored.summary["r"] is None
    assert scored.summary["score"] > 0.5
    assert server.keys == [None] * 2


@pytest.fixture(scope="module")
def base(case, evaluation, settings, tmp_path_factory):
    """A knowledge base of eight trajectories by two models, and its sources."""
    tmp_path = tmp_path_factory.mktemp("base")
    pairs = []
    for model, speaks in (("dualvla", True), ("specialist", False)):
        found = [case(n, speaks=speaks, every=1 + n) for n in range(4)]
        folder = evaluation(tmp_path / "evaluate" / model, found)
        out = tmp_path / "score" / model
        scoring.write(scoring.rate(folder, model, settings()), out)
        pairs.append((folder, out))
    return knowledge.build(pairs, tmp_path / "kb"), pairs


def test_a_knowledge_base_is_the_same_bytes_again_and_opens(base, tmp_path):
    built, pairs = base
    again = knowledge.build(pairs, tmp_path / "again")
    assert again.version == built.version
    assert knowledge.load(built.root, built.version).to_json() == {
        "version": built.version,
        "trajectories": 8,
        "reviewed": 0,
    }
    assert len(knowledge.build(pairs, tmp_path / "few", 3).index) == 3


def test_examples_are_the_nearest_of_the_same_scale_and_never_the_case_itself(base, case):
    built, _ = base
    near = built.nearest(case(2, every=3), True, 2)
    assert len(near) == 2
    assert all(row["id"].startswith("dualvla/") for row in near)
    assert "dualvla/official/carrot/official-02" not in [row["id"] for row in near]
    repeat = dataclasses.replace(case(2), key=(*case(2).key[:2], f"{case(2).key[2]}#1"))
    assert [row["id"] for row in built.nearest(repeat, True, 9)] == [
        row["id"] for row in built.nearest(case(2), True, 9)
    ]
    assert len(built.nearest(case(9), True, 9)) == 4
    # Texts as often as those of number 3 are nearest to it.
    assert (
        built.nearest(case(9, every=4), True, 1)[0]["id"] == "dualvla/official/carrot/official-03"
    )


def test_examples_are_shown_with_their_ratings(base, case, endpoint):
    built, _ = base
    asked, server, _ = endpoint(good)
    judge = LlmJudge(asked, knowledge=built, examples=2, frames=3)
    verdicts = judge([case(9)], True)
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    answer = json.loads(server.requests[0]["messages"][2]["content"])
    assert answer["action"] == 10
    assert judge.about(verdicts)["knowledge"]["version"] == built.version
    assert judge.about(verdicts)["examples"] == 2


@pytest.mark.parametrize("damage", ["missing", "changed", "index", "about", "rubric", "version"])
def test_a_damaged_knowledge_base_is_refused(base, tmp_path, monkeypatch, damage):
    built, _ = base
    root = shutil.copytree(built.root, tmp_path / "damaged")
    picture = root / "frames" / built.index["frames"].iloc[3][1]
    version, what = built.version, {"version": "not 0"}.get(damage, damage)
    if damage == "missing":
        picture.unlink()
    elif damage == "changed":
        picture.write_bytes(picture.read_bytes() + b"\0")
    elif damage == "index":
        (root / "index.parquet").write_bytes(b"PAR1")
        what = "unreadable"
    elif damage == "about":
        (root / "knowledge.json").unlink()
        what = "no knowledge base"
    elif damage == "rubric":
        about = json.loads((root / "knowledge.json").read_text())
        about["rubric"]["version"] = 0
        (root / "knowledge.json").write_text(json.dumps(about))
    else:
        version = "0" * 12
    with pytest.raises(UserError, match=what):
        knowledge.load(root, version)


def test_only_rated_trajectories_with_a_film_can_be_known(case, evaluation, settings, tmp_path):
    folder = evaluation(tmp_path / "dualvla", [case(n) for n in range(3)], films=2)
    scoring.write(scoring.rate(folder, "dualvla", settings()), tmp_path / "scores")
    table = pd.read_parquet(tmp_path / "scores" / "scores.parquet")
    table.loc[0, "status"] = "error"
    table.to_parquet(tmp_path / "scores" / "scores.parquet")
    built = knowledge.build([(folder, tmp_path / "scores")], tmp_path / "kb")
    assert built.index["id"].tolist() == ["dualvla/official/carrot/official-01"]
    shutil.rmtree(folder / "videos")
    with pytest.raises(UserError, match="no rated trajectory with a video"):
        knowledge.build([(folder, tmp_path / "scores")], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_judge_without_json_leaves_no_score(case, evaluation, endpoint, settings, tmp_path):
    folder = evaluation(tmp_path / "dualvla", [case()])
    asked, _, _ = endpoint(lambda body: say("no"))
    scored = scoring.rate(folder, "dualvla", settings(judge="llm"), LlmJudge(asked))
    assert scored.summary["score"] is None
    assert scored.summary["errors"] == 1
    assert scored.scores["error"].str.contains("no JSON").all()
