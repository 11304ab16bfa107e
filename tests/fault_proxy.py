"""A proxy in front of a real S3 server that fails on purpose.

It passes requests on with their Host header, so signatures stay valid, and asks a rule what to do
with each: pass, answer 500 or 503, cut the connection before the server sees the request, cut the
answer in its middle, drop the answer of a request that was carried out, or hold it for ever.
"""

import contextlib
import http.client
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FAULTS = ("500", "503", "cut", "half", "unanswered")
ERROR = b"<Error><Code>%s</Code><Message>on purpose</Message></Error>"


@dataclass
class Seen:
    """A request as a rule sees it."""

    method: str
    key: str
    query: dict[str, list[str]]

    @property
    def part(self) -> int | None:
        """Number of the part that it uploads."""
        number = self.query.get("partNumber") if self.method == "PUT" else None
        return int(number[0]) if number else None


Rule = Callable[[Seen], str | None]


def seeded(share: float, seed: int) -> Rule:
    """Faults of every kind for a share of all requests."""
    draw, lock = random.Random(seed), threading.Lock()

    def rule(_: Seen) -> str | None:
        with lock:
            return draw.choice(FAULTS) if draw.random() < share else None

    return rule


@dataclass
class Proxy:
    """A running proxy."""

    url: str
    faults: Counter = field(default_factory=Counter)
    seen: list[Seen] = field(default_factory=list)


@contextlib.contextmanager
def running(upstream: str, rule: Rule = lambda _: None) -> Iterator[Proxy]:
    """Serve a proxy to the server at `upstream` on a free port."""
    target = urlsplit(upstream)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            seen = Seen(self.command, parts.path, parse_qs(parts.query, keep_blank_values=True))
            fault = rule(seen)
            proxy.seen.append(seen)
            if fault:
                proxy.faults[fault] += 1
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault == "hold":
                ended.wait()
            if fault in ("cut", "hold"):
                self.drop()
            elif fault in ("500", "503"):
                code = {"500": b"InternalError", "503": b"SlowDown"}[fault]
                self.answer(int(fault), [("Content-Type", "application/xml")], ERROR % code)
            else:
                self.forward(body, fault)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815

        def forward(self, body: bytes, fault: str | None) -> None:
            upstream = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
            with contextlib.closing(upstream):
                headers = dict(self.headers.items())
                headers.pop("Expect", None)
                upstream.request(self.command, self.path, body=body, headers=headers)
                answer = upstream.getresponse()
                content, given = answer.read(), answer.getheaders()
            if fault == "unanswered":
                self.drop()
            elif fault == "half":
                self.answer(answer.status, given, content, sent=len(content) // 2)
                self.drop()
            else:
                self.answer(answer.status, given, content)

        def answer(
            self, status: int, headers: list, content: bytes, sent: int | None = None
        ) -> None:
            self.send_response_only(status)
            hop = {"transfer-encoding", "connection", "content-length"}
            length = str(len(content))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                if name.lower() not in hop:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[:sent])

        def drop(self) -> None:
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the client was killed
                super().handle()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            ended.set()
            server.shutdown()
