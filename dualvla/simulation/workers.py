"""Simulation processes: one environment each, which answers one message at a time.

A `Worker` is what rollouts need of any simulator; here is the one with this project's environments.
An answer is a list of observations, or a line on what went wrong. Whatever is raised inside becomes
such a line, so that a simulator's bug costs an episode and not the evaluation.
"""

import contextlib
import functools
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from dualvla import conventions
from dualvla.interface import Observation
from dualvla.simulation.environments import Environment, Pack, Size, reuse

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}


class Worker(Protocol):
    """A simulation in a process of its own that answers one message at a time."""

    def fileno(self) -> int:
        """Readable when an answer is there, or the process has ended."""

    def send(self, message: tuple[Any, ...]) -> None:
        """Ask for `("reset", task, start)`, or `("step", actions (n, 7), every)`.

        A step is answered with n observations, with a picture each if `every`, else the last alone.
        """

    def receive(self) -> list[Observation] | str:
        """The answer, or a line on what went wrong; `EOFError` if the process ended."""

    def exit_code(self) -> int | None:
        """How the process ended."""

    def stop(self, patient: bool) -> None:
        """End the process and free what it held."""


@dataclass(frozen=True)
class Engine:
    """How episodes are run."""

    convention: conventions.Convention  # of actions and states
    start: Callable[[], Worker]


def widowx(assets: Pack, image_size: Size) -> Engine:
    """The WidowX tasks, with pictures of `image_size`; the asset pack is already activated."""
    return Engine(conventions.WIDOWX_SIMULATION, functools.partial(_Process, assets, image_size))


class _Process:
    """A `Worker` with this project's environments."""

    def __init__(self, assets: Pack, image_size: Size) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, assets, image_size), daemon=True
        )
        with single_threaded():
            self._process.start()
        theirs.close()

    def fileno(self) -> int:
        return self._pipe.fileno()

    def send(self, message: tuple[Any, ...]) -> None:
        self._pipe.send(message)

    def receive(self) -> list[Observation] | str:
        return self._pipe.recv()

    def exit_code(self) -> int | None:
        self._process.join(5)
        return self._process.exitcode

    def stop(self, patient: bool) -> None:
        self._pipe.close()  # a worker that waits for a message ends at the end of its pipe
        if patient:
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Let processes started inside use one thread each: several share the cores."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, setting in before.items():
            if setting is None:
                del os.environ[name]
            else:
                os.environ[name] = setting


def _work(pipe: Connection, assets: Pack, image_size: Size) -> None:
    """Body of a worker: answer messages until the pipe ends."""
    environment: Environment | None = None
    try:
        while True:
            kind, *content = pipe.recv()
            if kind == "reset":
                task, start = content
                environment = reuse(task, assets, image_size)
                answer = [environment.reset(start)]
            else:
                assert environment is not None
                actions, every = content
                last = len(actions) - 1
                answer = [environment.step(a, every or i == last) for i, a in enumerate(actions)]
            pipe.send(answer)
    except EOFError:
        pass
    except Exception:
        # One line for the episode's row; the whole story for whoever reads the log.
        traceback.print_exc()
        pipe.send(traceback.format_exc().strip().splitlines()[-1])
    finally:
        if environment is not None:
            environment.close()
