"""A loopback server that lends one model, and one judge, to another environment.

Plain HTTP and JSON, pictures as PNG: the other side needs nothing but Python. It listens on
127.0.0.1 alone and wants the token that its child was started with. Every answer is written to a
file before it is given away, so that a stopped run asks no question twice; the judge's real key
stays here, the child sees the token instead.

lmms-eval counts a judge that fails as a score of zero. Here such a row is remembered instead, and
what was asked and said is kept, so that its benchmark ends as an error and not as a low score.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dualvla.errors import UserError
from dualvla.evaluation.judging.cache import Cache
from dualvla.evaluation.judging.endpoint import Endpoint, UnansweredError
from dualvla.evaluation.multimodal.answering import Answer, Question

HOST = "127.0.0.1"
MAX_BODY = 512 * 2**20  # bytes: a batch of large pages
NO_SCORE = "0.0"  # what lmms-eval is told of a row that could not be judged


@dataclass
class Lent:
    """What is lent, and what came of it.

    Attributes:
        answer: questions of a batch to answers.
        ledger: file of answers, a JSON object a line.
        verdicts: file of what the judge was asked and said, alike; no content where it gave none.
        endpoint: of the judge; None without one.
        cache: of the judge's answers.
        token: that requests must bring.
        failure: the error that ends the run, once there is one.
    """

    answer: Callable[[Sequence[Question]], list[Answer]]
    ledger: Path
    verdicts: Path
    endpoint: Endpoint | None = None
    cache: Cache = field(default_factory=Cache)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    failure: UserError | None = None
    _known: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        """Take up the answers that are there already."""
        self._known = {row["key"]: row["answer"] for row in read_ledger(self.ledger)}

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """Answers to a batch: kept ones, or the model's, which are kept before they are given."""
        keys = [key(question) for question in questions]
        with self._lock:
            if not all(k in self._known for k in keys):
                # The whole batch, known or not: its rows share their padding.
                given = self.answer(questions)
                new = zip(keys, questions, given, strict=True)
                fresh = [(k, q, a) for k, q, a in new if k not in self._known]
                _append(self.ledger, [_row(k, q, a) for k, q, a in fresh])
                self._known |= {k: a.text for k, _, a in fresh}
            return [self._known[k] for k in keys]

    def judge(self, repeat: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """A chat answer of the judge, checked and kept; `NO_SCORE` where it gave none."""
        assert self.endpoint is not None
        sent = {name: body[name] for name in ("messages", "max_tokens", "temperature")}
        question = {**sent, "seed": repeat}
        said = self.cache.get(where := self._where(question))
        if said is None:
            try:
                reply = self.endpoint.ask(question, check_score)
            except UnansweredError as error:
                said = {"content": None, "served": self.endpoint.model, "error": str(error)}
            else:
                said = {"content": reply.content, "served": reply.served, "error": None}
                self.cache.put(where, said)
        row = {"repeat": repeat, "prompt": body["messages"][-1]["content"], **said}
        with self._lock:
            _append(self.verdicts, [row])
        # The score alone: lmms-eval cuts an answer at blanks only and asks again for the rest.
        content = NO_SCORE if said["content"] is None else str(check_score(said["content"]))
        return {
            "id": "judge",
            "object": "chat.completion",
            "created": 0,
            "model": said["served"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content},
                }
            ],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }

    def _where(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self.endpoint is not None
        return {"url": self.endpoint.url, "model": self.endpoint.model, **question}


def check_score(content: str) -> float:
    """The score that MM-Vet's judge gave; a `ValueError` if it is none from 0 to 1."""
    words = content.split()
    score = float(words[0]) if words else float("nan")
    if not 0 <= score <= 1:
        raise ValueError("no score from 0 to 1")
    return score


def key(question: Question) -> str:
    """SHA-256 of all that an answer depends on beside the model."""
    digest = hashlib.sha256()
    for picture in question.pictures:
        digest.update(hashlib.sha256(picture).digest())
    rest = {name: getattr(question, name) for name in ("task", "row", "prompt", "limit", "until")}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Answers that were kept; a last line that was being written when it ended is cut off."""
    if not path.is_file():
        return []
    whole, _, rest = path.read_bytes().rpartition(b"\n")
    if rest:
        with path.open("r+b") as stream:
            stream.truncate(len(whole) + 1 if whole else 0)
    return [json.loads(line) for line in whole.splitlines()]


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def _row(question_key: str, question: Question, answer: Answer) -> dict[str, Any]:
    return {
        "key": question_key,
        "task": question.task,
        "row": question.row,
        "prompt": question.prompt,
        "pictures": len(question.pictures),
        "answer": answer.text,
        **{name: value for name, value in asdict(answer).items() if name != "text"},
    }


@contextlib.contextmanager
def serving(lent: Lent) -> Iterator[str]:
    """Serve until the block ends; yields the address."""
    server = ThreadingHTTPServer((HOST, 0), _handler(lent))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(lent: Lent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = self.headers.get("Authorization", "")
            if not secrets.compare_digest(given.encode(), f"Bearer {lent.token}".encode()):
                return self._reply(401, {"error": "wrong token"})
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_BODY:
                return self._reply(413, {"error": f"more than {MAX_BODY} bytes"})
            try:
                status, reply = _route(lent, self.path, json.loads(self.rfile.read(length)))
            except (KeyError, TypeError, ValueError) as error:
                status, reply = 400, {"error": f"bad request: {error}"}
            except UserError as error:
                lent.failure = error
                status, reply = 422, {"error": str(error)}
            except Exception as error:
                lent.failure = UserError(f"the model failed: {type(error).__name__}: {error}")
                status, reply = 500, {"error": str(lent.failure)}
            return self._reply(status, reply)

        def _reply(self, status: int, reply: Mapping[str, Any]) -> None:
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def _route(lent: Lent, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    if path == "/answer":
        questions = [_question(row) for row in body["questions"]]
        return 200, {"answers": lent.answers(questions)}
    parts = path.strip("/").split("/")
    if parts[:1] == ["judge"] and parts[2:] == ["v1", "chat", "completions"]:
        if lent.endpoint is None:
            raise UserError("a judge model is asked for and none is set")
        return 200, lent.judge(int(parts[1]), body)
    return 404, {"error": f"no route {path}"}


def _question(row: Mapping[str, Any]) -> Question:
    return Question(
        task=str(row["task"]),
        row=int(row["row"]),
        prompt=str(row["prompt"]),
        pictures=tuple(base64.b64decode(p, validate=True) for p in row["pictures"]),
        limit=None if row["max_new_tokens"] is None else int(row["max_new_tokens"]),
        until=tuple(map(str, row["until"])),
    )
