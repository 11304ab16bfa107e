"""A client of any OpenAI-compatible chat endpoint: one question, one checked answer.

httpx and one route are enough; the vendor's package would bring its own retries, which count no
cost. Everything that a network does is expected here: limits, faults and silence are waited out
with growing, jittered pauses, an answer that fails its check is asked for again, and what remains
without an answer is an `UnansweredError` that says why. Wrong credentials or no such model would
fail every question alike and are a `UserError`.

Where and as whom to ask comes from the environment alone. The key is in no repr, no message, no
file: whatever the endpoint says back is cleared of it.
"""

import json
import math
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from dualvla import redaction
from dualvla.errors import UserError

URL, MODEL, KEY = "DUALVLA_JUDGE_URL", "DUALVLA_JUDGE_MODEL", "DUALVLA_JUDGE_KEY"
RATE, PATIENCE = "DUALVLA_JUDGE_PER_MINUTE", "DUALVLA_JUDGE_TIMEOUT"
PRICES = "DUALVLA_JUDGE_PRICES"  # of a million tokens read and written: 2.5,10

TRIES = 4
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds
MAX_ANSWER = 4 * 2**20  # bytes
REPEATED = 100  # step of the seed between tries, so that a fixed seed does not repeat a bad answer

FATAL = {401: "the key is refused", 403: "the key may not do this", 404: "no such model or route"}
PASSING = {408, 409, 425, 429}


class Usage(NamedTuple):
    """Requests sent and tokens counted by the endpoint."""

    requests: int = 0
    read: int = 0
    written: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        return Usage(*(one + more for one, more in zip(self, other, strict=True)))


class UnansweredError(Exception):
    """No usable answer after all tries; the text says why."""

    spent = Usage()  # by all tries


class _PassingError(Exception):
    """A fault that another try may mend; `wait` is what the endpoint asked for, seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Reply(NamedTuple):
    """A checked answer, the model that says it gave it, and what all tries together used."""

    content: str
    served: str
    usage: Usage


class Pace:
    """Spaces the starts of requests: at most so many a minute, over all threads."""

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock, self._next = threading.Lock(), -math.inf

    def wait(self) -> None:
        """Return when the next request may start."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._interval
        if start > now:
            self._sleep(start - now)


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, as whom, how often and how long."""

    url: str  # base, such as https://api.example.com/v1
    model: str
    key: str | None = field(default=None, repr=False)
    per_minute: float | None = None
    timeout: float = 120.0  # seconds for one whole answer
    prices: tuple[float, float] | None = None  # a million tokens read, written
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)  # in [0, 1)
    pace: Pace = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            fix = "a base URL without user name, such as https://api.example.com/v1"
            raise UserError("no usable address", where=URL, fix=fix)
        object.__setattr__(self, "pace", Pace(self.per_minute, sleep=self.sleep))

    @property
    def host(self) -> str:
        """Where answers come from, for people."""
        return urlsplit(self.url).netloc

    def cost(self, usage: Usage) -> float | None:
        """Price of tokens; None where prices are not known."""
        if self.prices is None:
            return None
        return (usage.read * self.prices[0] + usage.written * self.prices[1]) / 1e6

    def ask(self, body: Mapping[str, Any], check: Callable[[str], object]) -> Reply:
        """Send a chat request until an answer passes its check.

        Args:
            body: of the request: messages, response_format, seed; the model is added.
            check: raises a `ValueError` for an answer that is none.

        Raises:
            UnansweredError: refused, or no usable answer after `TRIES` tries.
            UserError: key, model or route are wrong.
        """
        spent = Usage()
        for attempt in range(TRIES):
            self.pace.wait()
            spent = spent.plus(Usage(requests=1))
            sent = {**body, "model": self.model, "seed": body["seed"] + REPEATED * attempt}
            try:
                answer = self._post(sent)
                spent = spent.plus(_usage(answer))
                content = _content(answer)
                check(content)
            except UnansweredError as error:
                raise self._unanswered(str(error), spent) from error
            except (_PassingError, ValueError) as error:
                reason, asked = str(error), getattr(error, "wait", 0.0)
            else:
                return Reply(content, str(answer.get("model") or self.model), spent)
            if attempt + 1 < TRIES:
                self.sleep(self._wait(attempt, asked))
        raise self._unanswered(f"{reason}, {TRIES} tries", spent)

    def _wait(self, attempt: int, asked: float) -> float:
        """Seconds to wait after a try: what was asked for, or between half and all of a doubled."""
        most = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
        return max(min(asked, LONGEST_WAIT), most * (1 + self.jitter()) / 2)

    def _post(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        url, raw = f"{self.url.rstrip('/')}/chat/completions", bytearray()
        # httpx limits each silence, not the whole: a server that drips would hold us for ever.
        end = time.monotonic() + self.timeout
        try:
            with httpx.stream(
                "POST", url, json=sent, headers=headers, timeout=self.timeout, verify=_tls()
            ) as response:
                for part in response.iter_bytes():
                    raw += part
                    if time.monotonic() > end:
                        raise _PassingError(f"no answer within {self.timeout:g} s")
                    if len(raw) > MAX_ANSWER:
                        raise _PassingError("an answer without end")
        except httpx.TimeoutException as error:
            raise _PassingError(f"no answer within {self.timeout:g} s") from error
        except httpx.HTTPError as error:
            raise _PassingError(f"connection failed: {type(error).__name__}") from error
        return self._answer(response, bytes(raw))

    def _answer(self, response: httpx.Response, raw: bytes) -> dict[str, Any]:
        status = response.status_code
        if status in FATAL:
            said = self._clear(_said(raw))
            fix = f"check {URL}, {MODEL} and {KEY}"
            raise UserError(f"{FATAL[status]} (HTTP {status}: {said})", where=self.host, fix=fix)
        if status in PASSING or status >= 500:
            raise _PassingError(f"HTTP {status}", _seconds(response.headers.get("Retry-After")))
        if status != 200:
            raise UnansweredError(f"HTTP {status}: {_said(raw)}")
        try:
            answer = json.loads(raw)
        except ValueError as error:
            raise _PassingError("the endpoint's answer is no JSON") from error
        if not isinstance(answer, dict):
            raise _PassingError("the endpoint's answer is no object")
        return answer

    def _unanswered(self, reason: str, spent: Usage) -> UnansweredError:
        error = UnansweredError(self._clear(reason))
        error.spent = spent
        return error

    def _clear(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def from_environment(environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that the environment names.

    Raises:
        UserError: no URL or model, or a limit that is no number.
    """
    for name in (URL, MODEL):
        if not environment.get(name):
            fix = f"set {URL}, {MODEL} and, if it wants one, {KEY}: docs/judges.md"
            raise UserError("not set", where=name, fix=fix)
    prices = [_number(PRICES, part) for part in environment.get(PRICES, "").split(",") if part]
    if len(prices) not in (0, 2):
        raise UserError("not two numbers", where=PRICES, fix="such as 2.5,10")
    key, rate = environment.get(KEY) or None, environment.get(RATE)
    if key:
        redaction.remember(key)
    return Endpoint(
        url=environment[URL],
        model=environment[MODEL],
        key=key,
        per_minute=_number(RATE, rate) if rate else None,
        timeout=_number(PATIENCE, environment.get(PATIENCE) or "120"),
        prices=(prices[0], prices[1]) if prices else None,
    )


@cache
def _tls() -> ssl.SSLContext:
    """Certificates, read once: it takes longer than a short answer."""
    return httpx.create_ssl_context()


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{text!r} is no positive number", where=name, fix="mend or unset it")
    return value


def _content(answer: Mapping[str, Any]) -> str:
    """The text of an answer; an `UnansweredError` for a refusal, which would only be repeated."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        refusal, content = message.get("refusal"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _PassingError("an answer without message") from error
    if refusal or choice.get("finish_reason") == "content_filter":
        said = " ".join(str(refusal or "content filter").split())[:200]
        raise UnansweredError(f"refused: {said}")
    if choice.get("finish_reason") == "length":
        raise _PassingError("the answer was cut off")
    if not isinstance(content, str):
        raise _PassingError("an answer without text")
    return content


def _usage(answer: Mapping[str, Any]) -> Usage:
    found = answer.get("usage")
    counts = found if isinstance(found, dict) else {}
    read, written = (counts.get(f"{name}_tokens") for name in ("prompt", "completion"))
    return Usage(0, *(n if isinstance(n, int) and n >= 0 else 0 for n in (read, written)))


def _said(raw: bytes) -> str:
    """What an error's body says, in one short line."""
    try:
        text = json.loads(raw)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        text = raw.decode("utf-8", "replace")
    return " ".join(str(text).split())[:200] or "nothing"


def _seconds(header: str | None) -> float:
    """Retry-After: seconds or a date; 0 without one."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
