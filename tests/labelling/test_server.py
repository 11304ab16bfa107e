"""The server against what a browser could be tricked into, over real sockets."""

import http.client
import json
import threading

import pytest
import simulated_episodes as simulated

from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.labelling import labels, server
from dualvla.labelling.session import Session

MARK = {"episode_index": 0, "frame_index": 4}


@pytest.fixture
def running(tmp_path):
    dataset = lerobot.open_dataset(simulated.write(tmp_path / "data"))
    with server.Server(Session(dataset, tmp_path / "labels.json")) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(running, method, path, body=None, **headers):
    """Status, headers and body of one request; `Host` and all else as given."""
    connection = http.client.HTTPConnection(server.HOST, running.server_port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    if data is not None:
        headers = {"Content-Type": "application/json", "Content-Length": len(data)} | headers
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, str(value))
    connection.endheaders(data)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_it_listens_on_loopback_alone(running):
    assert running.server_address[0] == "127.0.0.1"


def test_a_change_is_answered_with_what_is_on_disk(running):
    status, _, body = ask(running, "POST", "/api/toggle", MARK)
    assert (status, json.loads(body)["boundaries"]) == (200, [4])
    assert labels.read(running.session.path).find(0).boundaries == (4,)
    status, _, body = ask(running, "POST", "/api/undo", {})
    assert (status, json.loads(body)["boundaries"]) == (200, [])
    assert json.loads(ask(running, "POST", "/api/undo", {})[2]) is None


def test_pictures_come_as_they_are_stored(running):
    status, headers, body = ask(running, "GET", "/api/episodes/1/frames/28")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert body == running.session.dataset.images()[29 + 28]


@pytest.mark.parametrize("name", ["evil.example", "evil.example:80", "127.0.0.1", "", "[::1]:1"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/api/toggle")])
def test_another_host_name_is_refused(running, name, method, path):
    assert ask(running, method, path, MARK, Host=name)[0] == 403
    assert not running.session.path.exists()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", ""])
def test_another_site_s_page_is_refused(running, origin):
    assert ask(running, "POST", "/api/toggle", MARK, Origin=origin)[0] == 403
    assert ask(running, "GET", "/api/episodes", Origin=origin)[0] == 403
    assert not running.session.path.exists()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_its_own_page_is_served(running, name):
    host = f"{name}:{running.server_port}"
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert ask(running, "POST", "/api/toggle", MARK, **headers)[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 2000, {}, 413),
        (b"{}", {"Content-Length": "9" * 5000}, 413),
        (b"{}", {"Content-Length": None}, 411),
        (b"{}", {"Content-Length": "-1"}, 411),
        (b"2\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}, 411),
        (MARK, {"Content-Type": "text/plain"}, 415),
        (MARK, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{", {}, 400),
        (b"[" * 1000, {}, 400),
        (b"\xff", {}, 400),
        ([1], {}, 400),
        ({}, {}, 400),
        (MARK | {"frame_index": "4"}, {}, 400),
        (MARK | {"frame_index": True}, {}, 400),
        (MARK | {"frame_index": 29}, {}, 404),
        (MARK | {"episode_index": 2}, {}, 404),
        (MARK | {"frame_index": 0}, {}, 409),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(running, body, headers, status):
    assert ask(running, "POST", "/api/toggle", body, **headers)[0] == status
    assert not running.session.path.exists()


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "//etc/passwd",
        "/page.html",
        "/api/episodes/..%2f..%2fetc%2fpasswd",
        "/api/episodes/0/frames/../../../labels.json",
        "/api/episodes/-1",
        "/api/episodes/2",
        "/api/episodes/0/frames/29",
        "/api/episodes/0?x",
    ],
)
def test_nothing_else_is_served(running, path):
    status, _, body = ask(running, "GET", path)
    assert status == 404
    assert json.loads(body)["error"]


def test_the_page_needs_nothing_from_elsewhere_and_cannot_be_framed(running):
    status, headers, body = ask(running, "GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert b"src=" not in body.replace(b"image.src =", b"")
    assert b"https://" not in body


def test_a_taken_port_is_one_clear_error(running):
    with pytest.raises(UserError, match=f"port {running.server_port} .*free one"):
        server.Server(running.session, running.server_port)
