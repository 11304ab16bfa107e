"""The labelling page's server: one page, a JSON interface, on loopback alone.

The standard library's server is enough for one person. Anyone who can reach the port can change
labels, so what a browser could be tricked into is refused: a request under another host name (DNS
rebinding) or from another site's page (its Origin), a change that is not JSON (a form of another
site could send that unasked), a page inside a frame. Other users of the same machine are trusted.
No path of a request ever becomes a path on disk.
"""

import json
import re
import signal
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from dualvla.errors import UserError
from dualvla.labelling.session import Session

HOST = "127.0.0.1"
MAX_BODY = 1024  # bytes; a change is a name and two numbers
PATIENCE = 60.0  # seconds an idle connection is kept

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src blob:; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
JSON = "application/json"
EPISODE = re.compile(r"/api/episodes/(\d{1,9})")
PICTURE = re.compile(r"/api/episodes/(\d{1,9})/frames/(\d{1,9})")


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Server(ThreadingHTTPServer):
    """A server of one session; `url` is where its page is."""

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        """Bind to loopback; port 0 takes a free one.

        Raises:
            UserError: the port is taken.
        """
        self.session = session
        self.page = resources.files("dualvla.labelling").joinpath("page.html").read_bytes()
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            what = f"port {port} cannot be used: {error}"
            raise UserError(
                what, where="--port", fix="leave it out: a free one is taken"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def serve(self) -> None:
        """Answer until Ctrl-C or SIGTERM."""
        # Also where the shell started this in the background, which ignores SIGINT.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed amid an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dualvla", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer with the page, data or a picture."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Change labels."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the command."""

    def _answer(self, act: Callable[[], tuple[str, bytes]]) -> None:
        try:
            self._require_ours()
            status, (kind, body) = HTTPStatus.OK, act()
        except RefusedError as error:
            status, kind, body = error.status, JSON, _json({"error": str(error)})
        except KeyError:
            status, kind = HTTPStatus.NOT_FOUND, JSON
            body = _json({"error": "no such episode or frame"})
        except UserError as error:
            status, kind, body = HTTPStatus.CONFLICT, JSON, _json({"error": str(error)})
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status != HTTPStatus.OK:
            # A body may be unread: what follows on this connection could be anything.
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def _require_ours(self) -> None:
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"not for this server; open {self.server.url}")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            raise RefusedError(HTTPStatus.FORBIDDEN, "from another site's page")

    def _get(self) -> tuple[str, bytes]:
        session = self.server.session
        if self.path == "/":
            return "text/html; charset=utf-8", self.server.page
        if self.path == "/api/episodes":
            return JSON, _json(session.overview())
        if found := EPISODE.fullmatch(self.path):
            return JSON, _json(session.episode(int(found[1])))
        if found := PICTURE.fullmatch(self.path):
            picture = session.picture(int(found[1]), int(found[2]))
            return "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg", picture
        raise RefusedError(HTTPStatus.NOT_FOUND, "nothing here")

    def _post(self) -> tuple[str, bytes]:
        session = self.server.session
        known = {"/api/toggle": session.toggle, "/api/done": session.done}
        if self.path not in (*known, "/api/undo"):
            raise RefusedError(HTTPStatus.NOT_FOUND, "nothing here")
        body = self._body()
        if self.path == "/api/undo":
            return JSON, _json(session.undo())
        episode, frame = body.get("episode_index"), body.get("frame_index")
        if type(episode) is not int or type(frame) is not int:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "not two whole numbers")
        return JSON, _json(known[self.path](episode, frame))

    def _body(self) -> Mapping[str, Any]:
        if self.headers.get_content_type() != JSON:
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"not {JSON}")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "no Content-Length")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "not JSON") from error
        if not isinstance(body, dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "not an object")
        return body


def _json(data: Any) -> bytes:
    return json.dumps(data, allow_nan=False).encode()
