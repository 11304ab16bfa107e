"""The real lmms-eval in its own environment, on schema-true rows of all eight benchmarks."""

import json

import pytest
from judge_endpoint import say, serve

from dualvla import files
from dualvla.evaluation.multimodal import harness, samples, server, tasks
from dualvla.evaluation.multimodal.answering import Answer

pytestmark = pytest.mark.slow


def grade(body):
    """A judge that reads the last line of MM-Vet's prompt: question | truth | prediction |."""
    row = body["messages"][-1]["content"].splitlines()[-1]
    _, truth, said, _ = (cell.strip() for cell in row.split("|"))
    right = any(one.strip() in said for one in truth.split("<OR>"))
    return say("1.0" if right else "0.0")


@pytest.fixture
def judge(monkeypatch):
    """`judge(behave)`: sets the environment to a judge on loopback."""
    servers = []

    def make(behave):
        one = serve(behave)
        servers.append(one)
        monkeypatch.setenv("DUALVLA_JUDGE_URL", one.url)
        monkeypatch.setenv("DUALVLA_JUDGE_MODEL", "looker")
        monkeypatch.setenv("DUALVLA_JUDGE_KEY", "sk-secret")
        return one

    yield make
    for one in servers:
        one.stop()


def truth(question):
    """The right answer to a self-made question."""
    name = next(b.name for b in tasks.BENCHMARKS.values() if b.task == question.task)
    row = samples.table(name).to_pylist()[question.row]
    right = row["answers"][0] if "answers" in row else row["answer"]
    return (right[0] if isinstance(right, list) else right).split("<OR>")[0]


@pytest.mark.timeout(1500)
def test_a_tiny_checkpoint_is_scored_on_all_eight(lmms_eval, checkpoint, judge, tmp_path):
    asked = judge(grade)
    request = harness.Request(checkpoint, tasks.select([]), "self-made", tmp_path / "out")
    summary = harness.run(request)

    assert [p["title"] for p in summary["benchmarks"]] == [b.title for b in tasks.select([])]
    assert summary["lmms_eval"] == "0.7.3"
    assert summary["mean"] is None
    answers = server.read_ledger(request.out / "answers.jsonl")
    for part in summary["benchmarks"]:
        table = samples.table(part["name"])
        assert (part["n"], part["status"], part["score"]) == (len(table), "ok", None)
        assert part["label"] == "self-made sample"
        assert 0 <= part["interval"][0] <= part["harness_score"] <= part["interval"][1] <= 100
        # lmms-eval scored what the checkpoint said, row by row.
        raw = files.read_json(request.out / "raw" / f"{part['name']}.0.json")
        said = {row["row"]: row["answer"] for row in answers if row["task"] == part["task"]}
        assert {s["doc_id"]: s["resps"][0][0] for s in raw["samples"]} == said
        assert len(said) == len(table)
    judged = next(p for p in summary["benchmarks"] if p["name"] == "mmvet")["judge"]
    assert (judged["model"], judged["served"]) == ("looker", ["looker-2025"])
    assert len(judged["prompt_sha256"]) == 64
    assert len(asked.requests) == 3
    assert set(asked.keys) == {"Bearer sk-secret"}
    for path in request.out.rglob("*"):
        assert path.is_dir() or b"sk-secret" not in path.read_bytes()

    # The same command has nothing left to do and says the same.
    again = harness.run(request)
    assert json.dumps(again, sort_keys=True) == json.dumps(summary, sort_keys=True)
    assert len(asked.requests) == 3


@pytest.mark.timeout(1500)
def test_right_answers_score_100_and_a_judge_that_fails_is_asked_again(
    lmms_eval, checkpoint, judge, tmp_path, monkeypatch
):
    def right(questions):
        return [Answer(truth(q), q.limit or 128, 0) for q in questions]

    mended = False

    def fails_at_first(body):
        row = body["messages"][-1]["content"].splitlines()[-1]
        fails = "buy bread" in row and not mended
        return (400, {}, {"error": {"message": "no"}}) if fails else grade(body)

    monkeypatch.setattr(harness, "answerer", lambda _: right)
    asked = judge(fails_at_first)
    request = harness.Request(checkpoint, tasks.select([]), "self-made", tmp_path / "out")
    parts = {p["name"]: p for p in harness.run(request)["benchmarks"]}
    assert (parts["mmvet"]["status"], parts["mmvet"]["harness_score"]) == ("error", None)
    assert "1 rows not judged" in parts["mmvet"]["error"]
    others = {name: p["harness_score"] for name, p in parts.items() if name != "mmvet"}
    assert others == pytest.approx(dict.fromkeys(others, 100.0))
    assert len(asked.requests) == 3

    # Given again: the model is not asked at all, the judge for the row it left out alone.
    mended = True
    monkeypatch.setattr(harness, "answerer", lambda _: lambda _: pytest.fail("asked again"))
    again = {p["name"]: p for p in harness.run(request)["benchmarks"]}
    assert again["mmvet"]["harness_score"] == pytest.approx(100)
    assert again["mmstar"] == parts["mmstar"]
    assert len(asked.requests) == 4
