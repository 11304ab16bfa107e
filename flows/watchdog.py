"""A run whose Prefect server is gone ends with one line, soon after its stages.

Prefect's client asks a dead server again at every step of a run's end, for minutes in all, while
nothing is computed. A thread of the run looks at the server instead: stages under way may finish,
for DVC records them without Prefect, and a server that is back by then costs nothing; after that
the process ends. What is lost is Prefect's own record of the run, which the next one closes.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from prefect.settings import PREFECT_API_URL

from dualvla import stack
from dualvla.errors import OutageError
from dualvla.store import outages
from tasks.session import Session

POLL = 5.0  # seconds between two looks
AWAY = 60.0  # seconds without an answer after which a run that computes nothing is given up


@contextlib.contextmanager
def watching(session: Session) -> Iterator[None]:
    """Inside, end this process where Prefect has not answered for a while and no stage runs."""
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(session, done), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def give_up() -> NoReturn:
    """Say that Prefect is gone and end the process, whose Prefect threads would go on asking."""
    url = PREFECT_API_URL.value()
    sys.stderr.write(f"error: {url}: Prefect does not answer -> {outages.AGAIN}\n")
    sys.stderr.flush()
    os._exit(OutageError.exit_code)


def _watch(session: Session, done: threading.Event) -> None:
    health = f"{PREFECT_API_URL.value()}/health"
    answered: float | None = None
    while not done.wait(POLL):
        if stack.answers(health):
            answered = time.monotonic()
        elif answered is None:  # busy, or behind something that only Prefect's client can pass
            continue
        elif time.monotonic() - answered > AWAY and not session.computes:
            give_up()
