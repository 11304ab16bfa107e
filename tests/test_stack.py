"""The local stack: idempotent, private, and clear about a taken port."""

import json
import socket
import urllib.error
import urllib.request

import psutil
import pytest

from dualvla import stack
from dualvla.errors import UserError
from dualvla.store import keys


@pytest.fixture
def own_ports(monkeypatch, port_base):
    monkeypatch.setenv(stack.PORT_BASE, str(port_base))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    return port_base


def test_up_twice_is_up_once_and_down_stops_it(tmp_path, own_ports):
    first = stack.up(tmp_path, names=("s3",))
    pid = json.loads((tmp_path / ".dualvla/s3.pid.json").read_text())["pid"]
    assert stack.up(tmp_path, names=("s3",)) == first
    assert stack.status(tmp_path)["s3"] == (f"http://127.0.0.1:{own_ports + 1}", "answers")
    assert json.loads((tmp_path / ".dualvla/s3.pid.json").read_text())["pid"] == pid
    assert stack.down(tmp_path) == ["s3"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert stack.down(tmp_path) == []
    assert stack.status(tmp_path)["s3"][1] == "stopped"


def test_servers_listen_on_loopback_alone(s3_root):
    pid = json.loads((s3_root / ".dualvla/s3.pid.json").read_text())["pid"]
    process = psutil.Process(pid)
    listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    recorded = json.loads((s3_root / ".dualvla/s3.pid.json").read_text())["ports"]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    assert {c.laddr.port for c in listening} <= set(recorded)


def test_the_number_of_buckets_does_not_hang_on_the_free_disk(s3_root):
    recorded = json.loads((s3_root / ".dualvla/s3.pid.json").read_text())["ports"]
    master = f"http://{stack.HOST}:{recorded[1]}/dir/status"
    with urllib.request.urlopen(master, timeout=30) as answer:
        assert json.load(answer)["Topology"]["Max"] == stack.S3_VOLUMES


def test_prefect_answers_without_calling_home(prefect_api, servers):
    assert prefect_api("/health") is True
    settings = stack.environment(servers)
    assert settings["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_a_taken_port_is_named_with_its_holder_and_nothing_starts(tmp_path, own_ports):
    with socket.socket() as taken:
        taken.bind((stack.HOST, own_ports + 3))
        taken.listen()
        with pytest.raises(
            UserError, match=rf"port {own_ports + 3} for s3 is in use by .+"
        ) as error:
            stack.up(tmp_path)
    assert stack.PORT_BASE in error.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["x", "80", "70000"])
def test_a_port_base_that_is_none_is_an_error(text):
    with pytest.raises(UserError, match="not a port"):
        stack.ports({stack.PORT_BASE: text})


def test_a_recycled_pid_is_not_taken_for_a_server(tmp_path):
    (tmp_path / ".dualvla").mkdir()
    record = {"pid": psutil.Process().pid, "created": 1.0, "ports": [1]}
    (tmp_path / ".dualvla/s3.pid.json").write_text(json.dumps(record))
    assert stack.status(tmp_path)["s3"][1] == "stopped"
    assert stack.down(tmp_path) == []


def test_keys_are_random_private_and_kept(tmp_path, own_ports):
    assert keys.local(tmp_path) is None
    made = keys.local(tmp_path, create=True)
    assert keys.local(tmp_path) == made
    assert (tmp_path / keys.CREDENTIALS).stat().st_mode & 0o777 == 0o600
    assert len(made.secret) >= 32
    assert made.secret not in repr(made)


def test_keys_of_the_environment_win_and_are_not_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    assert keys.local(tmp_path, create=True).access == "me"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY is not set"):
        keys.local(tmp_path)


def test_the_servers_behind_s3_take_nothing_without_a_key(s3_root):
    ports = json.loads((s3_root / ".dualvla/s3.pid.json").read_text())["ports"]
    address = f"http://127.0.0.1:{ports[3]}/buckets/somebody/alias.json"  # the filer
    for request in (address, urllib.request.Request(address, data=b"{}", method="POST")):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=5)
    assert (s3_root / ".dualvla/s3").stat().st_mode & 0o077 == 0


def test_an_address_that_is_none_does_not_answer():
    assert not stack.answers("nonsense/health")
