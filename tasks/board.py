"""Where a run stands: which stages are done, and an estimate of the time left.

The estimate plays the remaining stages forward on the cores there are, with the seconds each one
took last time. A stage that has never run counts as the mean of its kind (`distill@...`), else of
all: rough, and the line says so.
"""

import json
import statistics
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
        self._seconds, self._clock = dict(expected), clock
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
            begun = self._begun.pop(stage, None)
            if begun is not None:
                self._seconds[stage] = self._clock() - begun
            self._done.add(stage)

    def line(self) -> str:
        """Such as `7/18 stages, running mix, prune; about 4 min left`."""
        with self._lock:
            running = f", running {', '.join(self._begun)}" if self._begun else ""
            text = f"{len(self._done)} of {len(self._graph)} stages done{running}"
            remaining = [name for name in self._graph if name not in self._done]
            known = all(name in self._seconds for name in remaining)
            left = self._seconds_left(remaining) if self._seconds else None
        if not remaining:
            return text
        if left is None:
            return f"{text}; time left unknown, nothing has run before"
        return f"{text}; {'about' if known else 'roughly'} {spell(left)} left"

    def _seconds_left(self, remaining: list[str]) -> float:
        """Play the remaining stages forward, those that run already first."""
        now = self._clock()
        ends = dict.fromkeys(self._done, 0.0)
        lanes = [0.0] * max(1, self._cores)
        for name in sorted(remaining, key=lambda name: name not in self._begun):
            ready = max((ends.get(up, 0.0) for up in self._graph[name]), default=0.0)
            width = min(self._costs.get(name, 1), len(lanes))
            lanes.sort()
            begin = max(ready, lanes[width - 1])
            spent = now - self._begun[name] if name in self._begun else 0.0
            ends[name] = begin + max(0.0, self._guess(name) - spent)
            lanes[:width] = [ends[name]] * width
        return max(ends.values(), default=0.0)

    def _guess(self, name: str) -> float:
        """Seconds of a stage: measured, else the mean of its kind, else of all."""
        if name in self._seconds:
            return self._seconds[name]
        kind = name.split("@", maxsplit=1)[0]
        alike = [value for key, value in self._seconds.items() if key.split("@")[0] == kind]
        return statistics.fmean(alike or self._seconds.values())


def spell(seconds: float) -> str:
    """Seconds for people: `40 s`, `4 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
