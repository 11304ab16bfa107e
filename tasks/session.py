"""One run's children and the cores they share.

Each `dvc repro` gets its own process group and is killed as a group: DVC's pid alone would leave
the training behind. A supervisor leads the group and ends it when this process dies, by `kill -9`
too; `end_orphans` is the net below, for a supervisor that was killed in the same moment. Cores are
a plain in-process count, not a Prefect concurrency limit, which costs seconds an acquisition on
SQLite.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from tasks import supervisor
from tasks.supervisor import GRACE

OWNER = "DUALVLA_RUN_FOLDER"  # marks every process of a run, so that orphans can be found


class StoppedError(Exception):
    """The run is being ended: nothing new may start."""


class Session:
    """The processes of one run in one folder."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        cores: int,
        owner: Path | None = None,
    ) -> None:
        """Args: where stages run, their variables, how many cores they share, and whose they are.

        `owner` is the folder whose next run ends what is left of them; None: `folder`.
        """
        self.folder = folder.resolve()
        self.cores = cores
        self._environment = {**environment, OWNER: str((owner or folder).resolve())}
        self._free = cores
        self._changed = threading.Condition()
        self._children: set[int] = set()
        self._stopped = False

    @contextlib.contextmanager
    def using(self, cores: int) -> Iterator[None]:
        """Hold `cores` cores, waiting until they are free; more than all of them is all of them."""
        cores = min(cores, self.cores)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._free >= cores)
            self._require_running()
            self._free -= cores
        try:
            yield
        finally:
            with self._changed:
                self._free += cores
                self._changed.notify_all()

    def run(self, command: list[str], show: Callable[[str], None]) -> int:
        """Run a command in the folder, show each line as it comes, return the exit code.

        The command's whole process group is dead when this returns or raises, and soon after this
        process or the group's leader has died. A command that a signal ended has 128 and the
        signal's number as its code.
        """
        with self._changed:
            self._require_running()
            child = subprocess.Popen(
                supervisor.command(command),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.PIPE,  # never written: it ends with this process
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._children.add(child.pid)
        assert child.stdin is not None
        assert child.stdout is not None
        # Whoever is left of a group without a leader holds the pipe open that is read below.
        threading.Thread(target=_bury, args=(child,), daemon=True).start()
        try:
            for line in child.stdout:
                show(line.rstrip())
            code = child.wait()
            with self._changed:
                self._require_running()
            return code
        finally:
            _kill([child.pid])
            child.wait()
            child.stdin.close()
            child.stdout.close()
            with self._changed:
                self._children.discard(child.pid)

    @property
    def computes(self) -> bool:
        """Whether a command is under way."""
        return bool(self._children)

    def stop(self) -> None:
        """Kill every child and let nothing new start."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            children = list(self._children)
        _kill(children)

    def _require_running(self) -> None:
        if self._stopped:
            raise StoppedError("the run was ended")


def end_orphans(folder: Path) -> int:
    """Kill what an earlier run in `folder` left behind when it was killed; return how many.

    Call it only while holding the folder's run lock: then no such process can have a living run.
    """
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(OWNER) == str(folder.resolve()):
                orphans.append(process)
    orphans = [process for process in orphans if process.pid != os.getpid()]
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(orphans, timeout=GRACE)
    return len(orphans)


def _bury(leader: subprocess.Popen[str]) -> None:
    leader.wait()
    _kill([leader.pid])


def _kill(groups: list[int]) -> None:
    """End process groups: politely, and after a moment for good."""
    alive = [group for group in groups if _signal(group, signal.SIGTERM)]
    if alive:
        members = [process for group in alive for process in supervisor.members(group)]
        psutil.wait_procs(members, timeout=GRACE)
    for group in alive:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
