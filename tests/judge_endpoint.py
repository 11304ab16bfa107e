"""An OpenAI-compatible endpoint on loopback that looks at what it is sent, or misbehaves.

A behaviour is a function of the request's body that returns (status, headers, body), where the body
is bytes, a dict, or one of the tricks `HANG_UP` and `SLEEP`.
"""

import base64
import dataclasses
import io
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from dualvla.evaluation.speech import claims

ENDS = tuple(
    f"DUALVLA_JUDGE_{name}" for name in ("URL", "MODEL", "KEY", "PER_MINUTE", "TIMEOUT", "PRICES")
)
HANG_UP, SLEEP = object(), object()
COMMANDED = {"carrot": "source", "plate": "target"}
SEEN = {"source": (230, 120, 20), "target": (40, 90, 220)}

Behaviour = Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]


@dataclasses.dataclass
class Server:
    """A running server; `requests` are the bodies it got, `keys` the Authorization headers."""

    http: ThreadingHTTPServer
    requests: list[dict[str, Any]]
    keys: list[str | None]
    woken: threading.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def stop(self) -> None:
        self.woken.set()
        self.http.shutdown()
        self.http.server_close()


def serve(behave: Behaviour) -> Server:
    """Start a server on a free port."""
    requests: list[dict[str, Any]] = []
    keys: list[str | None] = []
    woken, lock = threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            with lock:
                requests.append(body)
                keys.append(self.headers.get("Authorization"))
                status, headers, answer = behave(body)
            if self.path != "/v1/chat/completions":
                status, answer = 404, {"error": {"message": "no such route"}}
            if answer is HANG_UP:
                self.close_connection = True
                return
            if answer is SLEEP:
                woken.wait(60)
                return
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return Server(http, requests, keys, woken)


def message(content: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": finish}
    choice["message"] = {"role": "assistant", "content": content, **more}
    usage = {"prompt_tokens": 1000, "completion_tokens": 50}
    return {"model": "looker-2025", "choices": [choice], "usage": usage}


def say(content: Any, **more: Any) -> tuple[int, dict[str, str], Any]:
    """An answer of status 200; anything but a text becomes JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    return 200, {}, message(text, **more)


GOOD = {"rationale": "seen", "action": 7, "intention": 8, "failures": ["jerky"]}
GOOD_SPEAKING = GOOD | {"reasoning": 6, "alignment": 5}


def good(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """The same sound answer to all."""
    return say(GOOD_SPEAKING if wants_speech(body) else GOOD)


def wants_speech(body: dict[str, Any]) -> bool:
    schema = body["response_format"]["json_schema"]["schema"]
    return "reasoning" in schema["required"]


def look(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """Rates by what is in the request: texts against pictures and commands, commands by jerk."""
    parts = body["messages"][-1]["content"]
    text = parts[0]["text"]
    pictures, step = {}, None
    for part in parts[1:]:
        if part["type"] == "text":
            step = int(re.fullmatch(r"Step (\d+):", part["text"]).group(1))
        else:
            raw = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            pictures[step] = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), int)
    moves = np.array(
        [
            [float(x) for x in row[:3]] + [1.0 if row[3] == "open" else -1.0]
            for row in re.findall(
                r"^\d+: ([+-]\d+) ([+-]\d+) ([+-]\d+) \| [+-]\d+ \| (\w+)$", text, re.MULTILINE
            )
        ]
    )
    said = {
        int(at): claims(words)
        for at, words in re.findall(r"^step (\d+): (.*)$", text, re.MULTILINE)
    }
    rated = {
        "rationale": "I looked.",
        "action": _smooth(moves),
        "intention": _serves(text, pictures),
        "failures": [],
    }
    if wants_speech(body):
        rated |= {"reasoning": _true(said, pictures, moves), "alignment": _done(said, moves)}
    return say(rated)


def _smooth(moves: np.ndarray) -> int:
    change = np.linalg.norm(np.diff(moves[:, :3], axis=0), axis=1).mean()
    size = np.linalg.norm(moves[:, :3], axis=1).mean()
    return _ten(1.3 - change / (2 * size))


def _serves(text: str, pictures: dict[int, np.ndarray]) -> int:
    """Whether what was moved is what the command names first; what is hidden has not moved."""
    first, last = min(pictures), max(pictures)
    moved = {}
    for name in SEEN:
        places = [_find(pictures[step], name) for step in (first, last)]
        away = float(np.linalg.norm(places[1] - places[0]))
        moved[name] = away if away < 200 else 0.0
    command = re.search(r"^Command: (.*)$", text, re.MULTILINE).group(1)
    named = min(COMMANDED, key=lambda word: command.index(word) if word in command else 1e9)
    return 9 if COMMANDED[named] == max(moved, key=moved.get) else 1


def _true(said: dict[int, Any], pictures: dict[int, np.ndarray], moves: np.ndarray) -> int:
    """Positions against pictures; a grasp said while the gripper is open all around is false."""
    marks = []
    for step, picture in pictures.items():
        begun = [at for at in said if at <= step]
        if not begun:
            continue
        heard = said[max(begun)]
        for word, place in heard.places.items():
            if max(begun) == step:
                away = np.linalg.norm(_find(picture, COMMANDED[word]) - 100 * np.array(place))
                marks.append(float(away < 8))
    for at, heard in said.items():
        closed = moves[max(0, at - 2) : at + 3, 3].min() < 0
        if heard.phases & {"lift", "move", "place"}:
            marks.append(float(closed))
        elif heard.phases & {"reach"}:
            marks.append(float(moves[at, 3] > 0))
    return _ten(float(np.mean(marks))) if marks else 0


def _done(said: dict[int, Any], moves: np.ndarray) -> int:
    marks = []
    for at, heard in said.items():
        moved = moves[at : at + 4]
        if heard.direction is not None:
            # The first commands alone: the next text may say another direction.
            marks.append(float(moved[0, :3] @ heard.vector() > 0))
        if heard.gripper is not None:
            wanted = 1.0 if heard.gripper == "open" else -1.0
            marks.append(float((moved[:, 3] == wanted).any()))
    return _ten(float(np.mean(marks))) if marks else 0


def _find(picture: np.ndarray, name: str) -> np.ndarray:
    """Middle of the patch of a thing's colour, (u, v) in pixels; where it was hidden, far off."""
    near = np.abs(picture - SEEN[name]).sum(axis=2) < 90
    rows, columns = np.nonzero(near)
    return np.array([columns.mean(), rows.mean()]) if len(rows) else np.array([1e3, 1e3])


def _ten(share: float) -> int:
    return int(np.clip(round(10 * share), 0, 10))
