import base64
import json
import urllib.error
import urllib.request

import pytest
from judge_endpoint import say, serve

from dualvla.errors import UserError
from dualvla.evaluation.judging.cache import Cache
from dualvla.evaluation.judging.endpoint import Endpoint
from dualvla.evaluation.multimodal import server
from dualvla.evaluation.multimodal.answering import Answer


def question(row=0, prompt="what?"):
    picture = base64.b64encode(b"png").decode()
    settings = {"max_new_tokens": 8, "until": ["\n\n"]}
    return {"task": "mmstar", "row": row, "prompt": prompt, "pictures": [picture], **settings}


def post(url, token, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


@pytest.fixture
def lend(tmp_path):
    """`lend(answer, endpoint)`: something to lend, with its files in one folder."""

    def make(answer=lambda qs: [Answer(q.prompt.upper(), 8, 0) for q in qs], endpoint=None):
        paths = {"ledger": tmp_path / "answers.jsonl", "verdicts": tmp_path / "judge.jsonl"}
        return server.Lent(answer, **paths, endpoint=endpoint, cache=Cache(tmp_path / "judge"))

    return make


@pytest.fixture
def judge():
    """`judge(behave)`: an endpoint of a judge on loopback, which waits for nothing."""
    servers = []

    def make(behave):
        servers.append(serve(behave))
        return Endpoint(
            servers[-1].url, "looker", "sk-secret", sleep=lambda _: None, jitter=lambda: 0.0
        )

    yield make
    for one in servers:
        one.stop()


def test_answers_are_kept_and_no_question_is_asked_twice(lend):
    lent = lend()
    with server.serving(lent) as url:
        first = post(f"{url}/answer", lent.token, {"questions": [question(0), question(1, "why")]})
    assert first == {"answers": ["WHAT?", "WHY"]}
    again = lend(answer=lambda _: pytest.fail("asked twice"))
    with server.serving(again) as url:
        assert post(f"{url}/answer", again.token, {"questions": [question(1, "why")]}) == {
            "answers": ["WHY"]
        }
    rows = server.read_ledger(lent.ledger)
    assert [(r["row"], r["answer"], r["pictures"]) for r in rows] == [
        (0, "WHAT?", 1),
        (1, "WHY", 1),
    ]


def test_a_line_that_was_being_written_is_dropped(lend):
    lent = lend()
    lent.ledger.write_bytes(b'{"key": "a", "answer": "x"}\n{"key": "b", "ans')
    assert [row["key"] for row in server.read_ledger(lent.ledger)] == ["a"]
    assert lent.ledger.read_bytes().endswith(b"\n")


def test_another_token_is_refused(lend):
    with (
        server.serving(lend()) as url,
        pytest.raises(urllib.error.HTTPError, match="401"),
    ):
        post(f"{url}/answer", "guess", {"questions": [question()]})


@pytest.mark.parametrize("body", [{}, {"questions": [{}]}, {"questions": 3}, []])
def test_a_malformed_request_is_refused_and_the_server_lives(lend, body):
    lent = lend()
    with server.serving(lent) as url:
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(f"{url}/answer", lent.token, body)
        assert post(f"{url}/answer", lent.token, {"questions": [question()]})["answers"]
    assert lent.failure is None


def test_a_model_that_fails_ends_the_run(lend):
    def fail(_):
        raise UserError("a picture of a question cannot be decoded")

    lent = lend(answer=fail)
    with (
        server.serving(lent) as url,
        pytest.raises(urllib.error.HTTPError, match="422"),
    ):
        post(f"{url}/answer", lent.token, {"questions": [question()]})
    assert "cannot be decoded" in str(lent.failure)


ASKED = {"messages": [{"role": "user", "content": "q | a | p |"}], "max_tokens": 8}
ASKED |= {"temperature": 0.0, "model": "theirs"}


def test_the_judge_is_asked_once_a_repeat_and_its_words_are_kept(lend, judge):
    lent = lend(endpoint=judge(lambda _: say("0.5 half")))
    with server.serving(lent) as url:
        for repeat in (0, 0, 1):
            said = post(f"{url}/judge/{repeat}/v1/chat/completions", lent.token, ASKED)
            assert said["choices"][0]["message"]["content"] == "0.5"
            assert said["model"] == "looker-2025"
    rows = server.read_ledger(lent.verdicts)
    assert [(r["repeat"], r["content"], r["error"]) for r in rows] == [
        (0, "0.5 half", None),
        (0, "0.5 half", None),
        (1, "0.5 half", None),
    ]
    assert "sk-secret" not in lent.verdicts.read_text()


def test_a_judge_without_a_score_is_remembered(lend, judge):
    lent = lend(endpoint=judge(lambda _: say("I cannot tell.")))
    with server.serving(lent) as url:
        post(f"{url}/judge/0/v1/chat/completions", lent.token, ASKED)
    (row,) = server.read_ledger(lent.verdicts)
    assert row["content"] is None
    assert "tries" in row["error"]


def test_a_refused_key_ends_the_run(lend, judge):
    lent = lend(endpoint=judge(lambda _: (401, {}, {"error": {"message": "bad key"}})))
    with (
        server.serving(lent) as url,
        pytest.raises(urllib.error.HTTPError, match="422"),
    ):
        post(f"{url}/judge/0/v1/chat/completions", lent.token, ASKED)
    assert "the key is refused" in str(lent.failure)


@pytest.mark.parametrize("said", ["", "good", "1.5", "-0.1", "nan", "0,5"])
def test_only_a_number_from_0_to_1_is_a_score(said):
    with pytest.raises(ValueError, match=r"."):
        server.check_score(said)
