"""Simulators that need an environment of their own: a host process each, behind the same rollouts.

The Google-robot tasks exist in the original `simpler_env` alone, which needs NumPy 1 and sapien 2
and therefore another virtual environment. `infra/simpler/host.py` runs there, one process a worker,
and knows nothing of this package; a `Host` is our end of it and fits `workers.Worker`, so that
batching, crashes, hangs and repeats are the rollouts' own. Messages are JSON over a socket pair.
Pictures come through memory that both sides hold and that has no name: the kernel frees it with the
last of them, whoever is killed. Copying a picture out of it costs 0.1 ms at 640x512.

What a host's simulator does not tell (most of the privileged state) is NaN in an observation.
"""

import functools
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.interface import ImageArray, Observation
from dualvla.simulation import workers

SIMPLER = Path(__file__).parents[2] / "infra" / "simpler"
HOST = SIMPLER / "host.py"
FOLDER = "DUALVLA_SIMPLER"  # variable that names the environment that infra/simpler/build.sh made

LENGTH = struct.Struct("!I")
LARGEST = 1 << 26  # bytes of a message: more is no message
BROKEN_OFF = 30.0  # seconds for the rest of a message that has begun

_KNOWN = {name: index for index, name in enumerate(conventions.ENVIRONMENT_STATE_NAMES)}


@dataclass(frozen=True)
class Program:
    """How a host is started."""

    python: str  # interpreter of its environment
    factory: str  # module:name of its simulator, see infra/simpler/host.py
    variables: Mapping[str, str] = field(default_factory=dict)  # beside this process's own


def google_robot() -> workers.Engine:
    """The Google-robot tasks of the original simpler_env.

    Raises:
        UserError: its environment has not been built.
    """
    folder = Path(os.environ.get(FOLDER) or SIMPLER.parents[1] / ".simpler")
    if not (folder / "ready").is_file():
        fix = f"build it with infra/simpler/build.sh, or name another folder in {FOLDER}"
        raise UserError("no environment of the original simpler_env", where=str(folder), fix=fix)
    assets = (folder / "assets").read_text(encoding="utf-8").strip()
    variables = {"MS2_ASSET_DIR": assets}
    program = Program(str(folder / "bin" / "python"), "google_robot:Environment", variables)
    return engine(program, conventions.GOOGLE_SIMULATION)


def engine(program: Program, convention: conventions.Convention) -> workers.Engine:
    """Rollouts over hosts of `program`, whose actions mean `convention`."""
    return workers.Engine(convention, functools.partial(Host, program))


class Host:
    """Our end of a host process; see `workers.Worker`."""

    def __init__(self, program: Program) -> None:
        self._socket, theirs = socket.socketpair()
        self._memory = os.memfd_create("dualvla-pictures")
        variables = {**os.environ, **workers.THREADS, **program.variables}
        if "PYTHONPATH" not in program.variables:
            variables.pop("PYTHONPATH", None)  # ours is of another environment
        try:
            self._process = subprocess.Popen(
                [program.python, HOST, str(theirs.fileno()), str(self._memory), program.factory],
                pass_fds=(theirs.fileno(), self._memory),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a simulator prints is for the log, not for our output
                env=variables,
            )
        except OSError as error:
            self._socket.close()
            os.close(self._memory)
            fix = "build it with infra/simpler/build.sh"
            raise UserError(str(error), where=program.python, fix=fix) from error
        finally:
            theirs.close()
        self._socket.settimeout(BROKEN_OFF)

    def fileno(self) -> int:
        """Readable when there is an answer, or its end."""
        return self._socket.fileno()

    def send(self, message: tuple[Any, ...]) -> None:
        """Pass on a message of `rollouts`."""
        kind, *content = message
        if kind == "reset":
            _, start = content
            told = {"kind": "reset", "episode": start.to_json()}
        else:
            actions, every = content
            told = {"kind": "step", "actions": actions.tolist(), "every": every}
        body = json.dumps(told).encode()
        self._socket.sendall(LENGTH.pack(len(body)) + body)

    def receive(self) -> list[Observation] | str:
        """Observations, or a line on what went wrong.

        Raises:
            EOFError: the process ended.
        """
        try:
            (size,) = LENGTH.unpack(self._exactly(LENGTH.size))
            if size > LARGEST:
                return "the simulation host answered nonsense"
            told = json.loads(self._exactly(size))
        except TimeoutError:
            return "the simulation host's answer broke off"
        except ConnectionResetError as error:
            raise EOFError from error
        if "error" in told:
            return str(told["error"])
        return [self._observation(one) for one in told["observations"]]

    def exit_code(self) -> int | None:
        """How the process ended, given 5 seconds to do so."""
        try:
            return self._process.wait(5)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, patient: bool) -> None:
        """End the process: at the end of its socket, or by force."""
        self._socket.close()
        try:
            if patient:
                self.exit_code()
        finally:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
            os.close(self._memory)

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._socket.recv(count)
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _observation(self, told: dict[str, Any]) -> Observation:
        environment = np.full(len(_KNOWN), np.nan, np.float32)
        for name, value in told["environment_state"].items():
            environment[_KNOWN[name]] = value
        return Observation(
            image=None if told["image"] is None else self._picture(**told["image"]),
            state=np.array(told["state"], np.float32).reshape(7),
            controller=np.array(told["controller"], np.float32).reshape(6),
            environment_state=environment,
            instruction=told["instruction"],
        )

    def _picture(self, offset: int, height: int, width: int) -> ImageArray:
        image = np.empty((height, width, 3), np.uint8)
        if os.preadv(self._memory, [image.data], offset) != image.nbytes:
            raise RuntimeError("a picture is not in the shared memory")
        return image
