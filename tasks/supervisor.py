"""Run a command that does not outlive whoever started it: `python -m tasks.supervisor COMMAND...`.

Standard input is a pipe whose other end the starting process alone holds: it ends when that process
does, by `kill -9` too. A pipe rather than Linux's parent-death signal, which is tied to the thread
that forked, reaches the command but not its children, and exists on Linux alone. It costs a small
Python process a stage, which must lead a process group of its own; the command's exit code is
passed on, with 128 added to the number of a signal as shells do.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import psutil

GRACE = 5.0  # seconds between the polite signal and the other


def command(of: list[str]) -> list[str]:
    """The command under its supervisor; start it as a group leader with a pipe as its input."""
    return [sys.executable, "-m", "tasks.supervisor", *of]


def killed(code: int) -> bool:
    """Whether a supervised command's exit code says that a signal ended it."""
    return code < 0 or 128 < code <= 128 + signal.NSIG


def members(group: int) -> list[psutil.Process]:
    """Processes of a group that still run, without this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            inside = process.pid != os.getpid() and os.getpgid(process.pid) == group
            # Where nobody waits for orphans, they stay in the list after their end.
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(group: int) -> None:
    """End every other process of a group: politely, and after a moment for good."""
    number = signal.SIGTERM
    while others := members(group):
        for process in others:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(others, timeout=GRACE)
        number = signal.SIGKILL


def _watch() -> None:
    os.read(0, 1)  # nobody writes: it returns when the other end is gone
    end(os.getpid())
    os._exit(128 + signal.SIGKILL)


def _outlast(*_: Any) -> None:
    """A signal to the group is for the command; who ends the group must be the last of it."""


def main() -> int:
    """Run the command; return its exit code once nothing of its group is left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _outlast)
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_watch, daemon=True).start()
    code = child.wait()
    # What the command started and left behind would hold the output open.
    end(os.getpid())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
