"""Children of a run and the cores they share."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tasks import supervisor
from tasks.session import OWNER, Session, StoppedError, end_orphans

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
    assert len(family) == 3, "a supervisor, its command, and the command's own child"
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


def marked(folder):
    """Processes that carry the mark of a run in `folder`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(OWNER) == str(folder):
                found.append(process)
    return found


def none_left(folder) -> bool:
    end = time.monotonic() + 120
    while marked(folder) and time.monotonic() < end:
        time.sleep(0.1)
    return not marked(folder)


def test_a_run_killed_by_kill_9_takes_its_training_with_it(tmp_path):
    code = (
        "import os, sys; from tasks.session import Session; from pathlib import Path\n"
        f"s = Session(Path({str(tmp_path)!r}), os.environ, 1)\n"
        f"s.run([sys.executable, '-c', {FAMILY!r}], lambda line: os.kill(os.getpid(), 9))\n"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == -9
    assert none_left(tmp_path)


@pytest.mark.slow
def test_a_command_that_ignores_the_polite_signal_ends_too(tmp_path):
    code = (
        "import os, sys; from tasks.session import Session; from pathlib import Path\n"
        f"s = Session(Path({str(tmp_path)!r}), os.environ, 1)\n"
        "s.run(['sh', '-c', 'trap \"\" TERM; echo up; while :; do sleep 600; done'],\n"
        "      lambda line: os.kill(os.getpid(), 9))\n"
    )
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code])
    assert none_left(tmp_path)


def test_what_a_killed_command_leaves_ends_with_it_and_the_code_says_so(session, tmp_path):
    def kill(line):
        if line != "up":
            os.kill(int(line), signal.SIGKILL)

    code = session.run([sys.executable, "-c", f"import os; print(os.getpid());{FAMILY}"], kill)
    assert code == 128 + signal.SIGKILL
    assert supervisor.killed(code)
    assert not supervisor.killed(255)  # what DVC answers when a stage fails
    assert marked(tmp_path) == []


def test_orphans_of_a_killed_run_are_found_by_their_mark(tmp_path):
    # As if the supervisor had been killed together with the run.
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, OWNER: str(tmp_path)})
    assert end_orphans(tmp_path) == 1
    assert orphan.poll() is not None
    assert end_orphans(tmp_path) == 0


def test_the_command_of_a_killed_supervisor_ends_at_once(session, tmp_path):
    def kill(line):
        os.kill(os.getpgid(int(line)), signal.SIGKILL)  # the leader alone

    begin = time.monotonic()
    code = session.run([sys.executable, "-c", f"import os; print(os.getppid());{FAMILY}"], kill)
    assert time.monotonic() - begin < 60
    assert code == -signal.SIGKILL
    assert none_left(tmp_path)


def test_processes_of_another_owner_are_left_alone(tmp_path):
    other = Session(tmp_path, os.environ, 1, owner=tmp_path / "evaluation")
    ended = []

    def look(_line):
        ended.append(end_orphans(tmp_path))
        other.stop()

    with contextlib.suppress(StoppedError):
        other.run([sys.executable, "-c", FAMILY], look)
    assert ended == [0]
