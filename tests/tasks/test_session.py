"""Children of a run and the cores they share."""

import os
import sys
import threading
import time

import psutil
import pytest

from tasks.session import Session, StoppedError, end_orphans

FAMILY = """
import subprocess, time
subprocess.Popen(["sleep", "600"])
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def session(tmp_path):
    session = Session(tmp_path, os.environ, cores=2)
    yield session
    session.stop()


def test_lines_come_as_they_are_printed_and_the_code_is_returned(session):
    lines = []
    code = session.run([sys.executable, "-c", "print('one'); print('two'); exit(5)"], lines.append)
    assert (code, lines) == (5, ["one", "two"])


def test_stop_kills_a_child_with_its_own_children(session):
    lines, errors = [], []
    before = set(psutil.Process().children(recursive=True))  # servers of other tests

    def work():
        try:
            session.run([sys.executable, "-c", FAMILY], lines.append)
        except StoppedError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not lines:
        time.sleep(0.05)
    family = [c for c in psutil.Process().children(recursive=True) if c not in before]
    session.stop()
    thread.join()
    assert errors
    assert len(family) == 2
    assert psutil.wait_procs(family, timeout=60)[1] == []
    with pytest.raises(StoppedError):
        session.run(["true"], lines.append)


def test_cores_bound_what_runs_side_by_side(session):
    most, now, lock = 0, 0, threading.Lock()

    def work(cost):
        nonlocal most, now
        with session.using(cost):
            with lock:
                now += min(cost, 2)
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= min(cost, 2)

    threads = [threading.Thread(target=work, args=(cost,)) for cost in (1, 1, 2, 1, 9, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_orphans_of_a_killed_run_are_found_by_their_mark(tmp_path):
    code = (
        "import os, sys; from tasks.session import Session; from pathlib import Path\n"
        f"s = Session(Path({str(tmp_path)!r}), os.environ, 1)\n"
        "s.run(['sh', '-c', 'echo up; sleep 600'], lambda line: os.kill(os.getpid(), 9))\n"
    )
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code])
    assert end_orphans(tmp_path) >= 1
    assert end_orphans(tmp_path) == 0
