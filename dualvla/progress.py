"""Progress: one rich bar with the time left in a terminal, plain lines elsewhere.

Under Prefect and in CI standard output is a pipe; a redrawn bar would be noise there, so a line is
printed at most every `interval` seconds instead.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def log(message: str) -> None:
    """Print one line at once."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


def track(items: Iterable[Item], total: int, what: str, interval: float = 10.0) -> Iterator[Item]:
    """Yield `items` while showing how many of `total` are done and the seconds left."""
    if sys.stdout.isatty():
        from rich.progress import track as rich_track

        yield from rich_track(items, description=what, total=total)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= interval and done < total:
            left = (now - start) / done * (total - done)
            log(f"{what}: {done}/{total}, {left:.0f} s left")
            last = now
    log(f"{what}: {total}/{total} in {time.monotonic() - start:.1f} s")
