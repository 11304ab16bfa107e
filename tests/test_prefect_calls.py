"""The tests' own calls to Prefect, against a server that is busy."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prefect_calls
import pytest


@pytest.fixture
def server():
    """A function that starts a server with these answers, the last of them for ever: codes, or
    None for a hang-up."""
    running = []

    def start(*answers):
        left = list(answers)

        class Busy(BaseHTTPRequestHandler):
            def do_POST(self):
                answer = left.pop(0) if len(left) > 1 else left[0]
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        one = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
        running.append(one)
        threading.Thread(target=one.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{one.server_port}"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def test_a_busy_server_is_asked_again(server):
    api = server(503, None, 503, 200)
    assert prefect_calls.call(api, "/filter", {"limit": 1}) == {"limit": 1}


def test_any_other_refusal_is_told_at_once(server):
    with pytest.raises(AssertionError, match="422"):
        prefect_calls.call(server(422, 200), "/filter", {"limit": 0})
