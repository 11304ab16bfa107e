"""Progress: one rich bar with the time left in a terminal, plain lines elsewhere.

Under Prefect and in CI standard output is a pipe; a redrawn bar would be noise there, so a line is
printed at most every `interval` seconds instead. Of several launched processes one is heard.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dualvla import redaction

Item = TypeVar("Item")


def shown() -> bool:
    """Whether this process is alone, or the first of those launched together."""
    return os.environ.get("RANK", "0") == "0"


def log(message: str) -> None:
    """Print one line at once."""
    if not shown():
        return
    sys.stdout.write(redaction.redact(message) + "\n")
    sys.stdout.flush()


def track(
    items: Iterable[Item],
    total: int,
    what: str,
    *,
    interval: float = 10.0,
    note: Callable[[], str] = str,
) -> Iterator[Item]:
    """Yield `items` while showing how many of `total` are done, the seconds left and a note."""
    if shown() and sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        bar = Progress(
            "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        with bar:
            task = bar.add_task(what, total=total)
            for item in items:
                yield item
                bar.update(task, advance=1, description=f"{what} {note()}".rstrip())
        return
    start = last = first = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == 1:
            first = now  # whatever had to start is in the first item's time
        elif now - last >= interval and done < total:
            left = (now - first) / (done - 1) * (total - done)
            log(f"{what}: {done}/{total}, {left:.0f} s left {note()}".rstrip())
            last = now
    log(f"{what}: {total}/{total} in {time.monotonic() - start:.1f} s")
