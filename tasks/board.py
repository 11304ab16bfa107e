"""Where a run stands: which stages are done, and an estimate of the time left.

The estimate plays the remaining stages forward on the cores there are, with the seconds each one
took last time. A stage without such a time makes it a lower bound, and it says so.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dualvla import paths
from tasks.graph import Upstreams


def earlier_seconds(folder: Path) -> dict[str, float]:
    """Wall-clock seconds of each stage's last run, as far as the stages have recorded them."""
    found = {}
    for path in sorted((folder / paths.TIMINGS).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = float(record["seconds"])
    return found


class Board:
    """Thread-safe record of a run's stages."""

    def __init__(
        self,
        graph: Upstreams,
        costs: Mapping[str, int],
        cores: int,
        expected: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: the graph, cores a stage uses, cores there are, seconds each took last time."""
        self._graph, self._costs, self._cores = graph, costs, cores
        self._expected, self._clock = expected, clock
        self._begun: dict[str, float] = {}
        self._done: set[str] = set()
        self._lock = threading.Lock()

    def start(self, stage: str) -> None:
        """A stage has begun."""
        with self._lock:
            self._begun[stage] = self._clock()

    def finish(self, stage: str) -> None:
        """A stage has ended, however."""
        with self._lock:
            self._begun.pop(stage, None)
            self._done.add(stage)

    def line(self) -> str:
        """Such as `7/18 stages, running mix, prune; about 4 min left`."""
        with self._lock:
            running = ", ".join(self._begun) or "nothing"
            text = f"{len(self._done)}/{len(self._graph)} stages, running {running}"
            left, complete = self._seconds_left()
        if left is None:
            return f"{text}; no earlier run to estimate the time left from"
        return f"{text}; {'about' if complete else 'at least'} {spell(left)} left"

    def _seconds_left(self) -> tuple[float | None, bool]:
        """Play forward; None if not one remaining stage has a time, False if some have none."""
        now = self._clock()
        ends = dict.fromkeys(self._done, 0.0)
        remaining = [name for name in self._graph if name not in self._done]
        known = [name for name in remaining if name in self._expected]
        if remaining and not known:
            return None, False
        lanes = [0.0] * max(1, self._cores)
        for name in sorted(remaining, key=lambda name: name not in self._begun):
            ready = max((ends.get(up, 0.0) for up in self._graph[name]), default=0.0)
            width = min(self._costs.get(name, 1), len(lanes))
            lanes.sort()
            begin = max(ready, lanes[width - 1])
            spent = now - self._begun[name] if name in self._begun else 0.0
            ends[name] = begin + max(0.0, self._expected.get(name, 0.0) - spent)
            lanes[:width] = [ends[name]] * width
        return max(ends.values(), default=0.0), len(known) == len(remaining)


def spell(seconds: float) -> str:
    """Seconds for people: `40 s`, `4 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
