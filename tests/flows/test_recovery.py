"""Servers that are killed in the middle of a run, and runs that meet: real DVC, Prefect and S3."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dualvla import config, stack
from dualvla.store import client, versions
from tasks import session, store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible")]


@pytest.fixture
def own(bare_project, port_base, monkeypatch):
    """The toy project with servers of its own, which may be killed."""
    monkeypatch.setenv(stack.PORT_BASE, str(port_base))
    bare_project.patch(evaluate={"models": ["dualvla", "base_ft"]})
    yield bare_project
    stack.down(bare_project.root)


@pytest.fixture
def toy(project):
    project.patch(evaluate={"models": ["dualvla", "base_ft"]})
    return project


class Flow:
    """A run under way, and what it said so far."""

    def __init__(self, root: Path, log: Path, *arguments: str, **stages: object) -> None:
        self.log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dualvla.cli", "retrain", *arguments],
                cwd=root,
                env={**os.environ, "TOY": json.dumps(stages)},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, line: str) -> None:
        while line not in self.said:
            assert self.process.poll() is None, f"it ended before {line!r}: {self.said[-3000:]}"
            time.sleep(0.2)

    def ended(self) -> int:
        return self.process.wait(timeout=900)


@pytest.fixture
def start(tmp_path):
    flows = []

    def make(root: Path, *arguments: str, **stages: object) -> Flow:
        flows.append(Flow(root, tmp_path / f"{len(flows)}.log", *arguments, **stages))
        return flows[-1]

    yield make
    for flow in flows:
        flow.process.kill()
        flow.process.wait()


def kill_server(root: Path, name: str) -> None:
    pid = json.loads((root / stack.STATE / f"{name}.pid.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    while stack.status(root)[name][1] != "stopped":
        time.sleep(0.1)


def of_the_run(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(session.OWNER) == str(root):
                found.append(process)
        except psutil.Error:
            continue
    return found


def none_left(root: Path) -> bool:
    end = time.monotonic() + 120
    while of_the_run(root) and time.monotonic() < end:
        time.sleep(0.2)
    return not of_the_run(root)


def test_servers_killed_in_the_middle_cost_a_restart_and_nothing_else(own, start, tmp_path):
    go_on = tmp_path / "go-on"
    first = start(own.root, prune={"until": str(go_on)})
    first.wait_for("prune says hello")
    kill_server(own.root, "prefect")
    go_on.touch()
    assert first.ended() == 1, first.said[-3000:]
    last = first.said.strip().splitlines()[-1]
    assert last.startswith("error: http"), last
    assert last.endswith("Prefect does not answer -> the same command goes on where it stopped")
    assert none_left(own.root)

    # The first run may or may not have come to its report, so that each next one needs another.
    # S3 stays away: the run ends with one line.
    go_on.unlink()
    own.patch(evaluate={"models": ["base_ft", "dualvla"]})
    second = start(own.root, report={"until": str(go_on)})
    second.wait_for("report says hello")
    assert "demonstrations says hello" not in second.said, "it was done before"
    kill_server(own.root, "s3")
    go_on.touch()
    assert second.ended() == 1
    last = second.said.strip().splitlines()[-1]
    assert last.startswith("error: s3://artifacts"), last
    assert last.endswith("the same command goes on where it stopped")

    # S3 comes back while the push is being repeated: the run goes on.
    go_on.unlink()
    own.patch(evaluate={"models": ["dualvla"]})
    third = start(own.root, report={"until": str(go_on)})
    third.wait_for("report says hello")
    kill_server(own.root, "s3")
    go_on.touch()
    third.wait_for("S3 does not answer")
    stack.up(own.root, names=("s3",))
    assert third.ended() == 0, third.said[-3000:]
    where = client.place(config.load(own.root / "params.yaml").store, own.root)
    assert versions.verify(where, store.version(own.root)) > 0


def test_a_second_run_waits_if_it_is_told_to(toy, start, prefect_api, tmp_path):
    first = start(toy.root, annotate={"sleep": 600})
    first.wait_for("annotate says hello")
    refused = toy.run("retrain", "--when-busy", "refuse")
    assert refused.returncode == 2
    assert f"stop process {first.process.pid}" in refused.stderr
    second = start(toy.root, "--when-busy", "wait")
    second.wait_for(f"waiting for process {first.process.pid}")
    assert first.process.poll() is None
    first.process.send_signal(signal.SIGTERM)
    first.ended()
    assert second.ended() == 0, second.said[-3000:]
    assert "demonstrations says hello" not in second.said


def test_a_run_in_a_shell_s_background_ends_by_sigint_too(toy, tmp_path):
    """Such jobs are started with SIGINT ignored."""
    log = tmp_path / "log"
    shell = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m dualvla.cli retrain > {log} 2>&1 & echo $!"],
        cwd=toy.root,
        env={**os.environ, "TOY": json.dumps({"annotate": {"sleep": 600}})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    flow = psutil.Process(int(shell.stdout))
    while not any("toy.py" in one.cmdline() for one in of_the_run(toy.root)):
        assert flow.is_running(), log.read_text()[-3000:]
        time.sleep(0.2)
    flow.send_signal(signal.SIGINT)
    while flow.is_running() and flow.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.2)
    assert none_left(toy.root)
