import pytest
from judge_endpoint import GOOD, HANG_UP, SLEEP, good, message, say

from dualvla.errors import UserError
from dualvla.evaluation.judging import endpoint as endpoints
from dualvla.evaluation.judging.answers import Acting
from dualvla.evaluation.judging.endpoint import TRIES, Pace, UnansweredError, Usage

BODY = {"messages": [], "response_format": {"json_schema": {"schema": {"required": []}}}, "seed": 0}


def check(content):
    return Acting.model_validate_json(content)


def after(*first):
    """Behaves as `first`, one request each, then well."""
    left = list(first)
    return lambda body: left.pop(0) if left else good(body)


PASSING = {
    "no json": say("I would rate this a seven."),
    "wrong schema": say(GOOD | {"action": 11}),
    "another field": say(GOOD | {"mood": "fine"}),
    "no whole number": say(GOOD | {"action": 7.5}),
    "a rating as text": say(GOOD | {"action": "7"}),
    "cut off": say('{"rationale": "I', finish="length"),
    "no choices": (200, {}, {"choices": []}),
    "no object": (200, {}, b"[]"),
    "html": (200, {}, b"<html>busy</html>"),
    "empty": (200, {}, b""),
    "too many": (429, {"Retry-After": "7"}, {"error": {"message": "slow down"}}),
    "fault": (500, {}, b"oops"),
    "busy": (503, {}, b""),
    "hang-up": (200, {}, HANG_UP),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_waited_out(endpoint, fault):
    asked, server, waits = endpoint(after(PASSING[fault]))
    reply = asked.ask(BODY, check)
    assert check(reply.content).action == 7
    assert (len(server.requests), len(waits)) == (2, 1)
    assert reply.usage.requests == 2
    assert reply.served == "looker-2025"


@pytest.mark.parametrize("fault", PASSING)
def test_a_lasting_fault_is_an_unanswered_question_with_its_reason(endpoint, fault):
    asked, server, waits = endpoint(lambda body: PASSING[fault])
    with pytest.raises(UnansweredError, match=f"{TRIES} tries") as caught:
        asked.ask(BODY, check)
    assert len(server.requests) == caught.value.spent.requests == TRIES
    assert len(waits) == TRIES - 1


def test_silence_is_a_time_out(endpoint):
    asked, server, _ = endpoint(lambda body: (200, {}, SLEEP), timeout=0.2)
    with pytest.raises(UnansweredError, match=r"no answer within 0\.2 s"):
        asked.ask(BODY, check)
    assert len(server.requests) == TRIES


def test_pauses_grow_and_obey_the_endpoint(endpoint):
    slow = (429, {"Retry-After": "7"}, b"")
    asked, _, waits = endpoint(after(PASSING["fault"], slow, PASSING["fault"]))
    asked.ask(BODY, check)
    assert waits == [0.5, 7.0, 2.0]


def test_jitter_spreads_pauses(endpoint):
    asked, _, waits = endpoint(lambda body: PASSING["fault"], jitter=lambda: 0.5)
    with pytest.raises(UnansweredError):
        asked.ask(BODY, check)
    assert waits == [0.75, 1.5, 3.0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("3", 3), ("-1", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("nan", 0)],
)
def test_retry_after_may_be_anything(header, seconds):
    assert endpoints._seconds(header) == seconds


def test_another_try_has_another_seed(endpoint):
    asked, server, _ = endpoint(after(PASSING["no json"]))
    asked.ask(BODY, check)
    assert len({request["seed"] for request in server.requests}) == 2


REFUSALS = {
    "refusal": (200, {}, message(None, refusal="I cannot judge this.")),
    "filter": (200, {}, message("", finish="content_filter")),
    "bad request": (400, {}, {"error": {"message": "an image is too large"}}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_not_asked_again(endpoint, name):
    asked, server, waits = endpoint(lambda body: REFUSALS[name])
    with pytest.raises(UnansweredError, match=r"cannot judge|content filter|too large"):
        asked.ask(BODY, check)
    assert (len(server.requests), waits) == (1, [])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_wrong_credentials_or_model_end_at_once_and_the_key_is_never_shown(endpoint, status):
    said = {"error": {"message": "Incorrect API key provided: sk-very-secret-key"}}
    asked, server, _ = endpoint(lambda body: (status, {}, said))
    with pytest.raises(UserError, match="DUALVLA_JUDGE_KEY") as caught:
        asked.ask(BODY, check)
    assert "sk-very-secret" not in str(caught.value)
    assert "sk-very-secret" not in repr(asked)
    assert server.keys == ["Bearer sk-very-secret-key"]


def test_a_reason_does_not_repeat_the_key(endpoint):
    asked, _, _ = endpoint(lambda body: (400, {}, b"bad sk-very-secret-key"))
    with pytest.raises(UnansweredError) as caught:
        asked.ask(BODY, check)
    assert "sk-very-secret" not in str(caught.value)


def test_tokens_of_all_tries_are_counted_and_priced(endpoint):
    asked, _, _ = endpoint(after(PASSING["no json"]), prices=(2.5, 10.0))
    usage = asked.ask(BODY, check).usage
    assert usage == Usage(2, 2000, 100)
    assert asked.cost(usage) == pytest.approx((2000 * 2.5 + 100 * 10) / 1e6)
    assert endpoint(good)[0].cost(usage) is None


def test_requests_are_spaced():
    now, slept = [0.0], []
    pace = Pace(30, clock=lambda: now[0], sleep=slept.append)
    for _ in range(3):
        pace.wait()
    assert slept == [2.0, 4.0]
    now[0] = 60.0
    pace.wait()
    assert len(slept) == 2


def test_the_environment_names_the_endpoint():
    given = {
        "DUALVLA_JUDGE_URL": "https://api.example.com/v1",
        "DUALVLA_JUDGE_MODEL": "big",
        "DUALVLA_JUDGE_KEY": "sk-1",
        "DUALVLA_JUDGE_PER_MINUTE": "60",
        "DUALVLA_JUDGE_PRICES": "2.5,10",
    }
    found = endpoints.from_environment(given)
    assert (found.model, found.key, found.per_minute) == ("big", "sk-1", 60)
    assert found.prices == (2.5, 10)
    assert found.host == "api.example.com"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"DUALVLA_JUDGE_URL": ""}, "DUALVLA_JUDGE_URL"),
        ({"DUALVLA_JUDGE_MODEL": ""}, "DUALVLA_JUDGE_MODEL"),
        ({"DUALVLA_JUDGE_URL": "ftp://x"}, "DUALVLA_JUDGE_URL"),
        ({"DUALVLA_JUDGE_URL": "https://me:pw@x/v1"}, "DUALVLA_JUDGE_URL"),
        ({"DUALVLA_JUDGE_PRICES": "3"}, "DUALVLA_JUDGE_PRICES"),
        ({"DUALVLA_JUDGE_TIMEOUT": "long"}, "DUALVLA_JUDGE_TIMEOUT"),
        ({"DUALVLA_JUDGE_PER_MINUTE": "-1"}, "DUALVLA_JUDGE_PER_MINUTE"),
    ],
)
def test_an_unusable_environment_is_refused(change, named):
    given = {"DUALVLA_JUDGE_URL": "http://127.0.0.1:1/v1", "DUALVLA_JUDGE_MODEL": "big"}
    with pytest.raises(UserError, match=named) as caught:
        endpoints.from_environment(given | change)
    assert "pw@" not in str(caught.value)
