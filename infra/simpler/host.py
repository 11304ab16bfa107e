"""A simulator in an environment of its own: the far side of `dualvla.simulation.foreign`.

It runs where dualvla cannot be installed (NumPy 1, gymnasium 0.29, sapien 2), so it knows the
standard library and NumPy alone. Messages travel over a socket that the other side made: four bytes
of length, then JSON; nothing is unpickled. Pictures are written to a piece of shared memory that it
made too. That memory has no name, so the kernel frees it with the last process that holds it: after
a `kill -9` of either side nothing is left under /dev/shm. The price is that it runs on Linux alone,
as this simulator does.

Usage: host.py SOCKET MEMORY MODULE:FACTORY    (two inherited file descriptors; who makes it)

FACTORY() gives an object with
    reset(episode: dict) -> observation
    step(action: (7,) float32, render: bool) -> observation
    close()
where an observation is a dict of `image` ((height, width, 3) uint8 or None), `state` (7 numbers),
`controller` (6), `environment_state` (names to numbers, those that are known) and `instruction`.
"""

import importlib
import json
import os
import socket
import struct
import sys
import traceback

import numpy as np

LENGTH = struct.Struct("!I")


def receive(connection):
    """The next message; None when the other side has hung up."""
    head = _exactly(connection, LENGTH.size)
    if head is None:
        return None
    body = _exactly(connection, LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def send(connection, message):
    """Send one message."""
    body = json.dumps(message).encode()
    connection.sendall(LENGTH.pack(len(body)) + body)


def _exactly(connection, count):
    parts = []
    while count:
        part = connection.recv(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def answer(environment, message, memory):
    """Observations of one message, their pictures in `memory` one after another."""
    if message["kind"] == "reset":
        seen = [environment.reset(message["episode"])]
    else:
        actions = np.asarray(message["actions"], np.float32)
        last = len(actions) - 1
        seen = [environment.step(a, message["every"] or i == last) for i, a in enumerate(actions)]
    observations, offset = [], 0
    for one in seen:
        image = one["image"]
        described = None
        if image is not None:
            image = np.ascontiguousarray(image)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"a picture of {image.dtype} {image.shape}")
            if os.pwrite(memory, image.data, offset) != image.nbytes:
                raise OSError("the shared memory is full")
            described = {"offset": offset, "height": image.shape[0], "width": image.shape[1]}
            offset += image.nbytes
        observations.append(
            {
                "image": described,
                "state": np.asarray(one["state"], np.float32).tolist(),
                "controller": np.asarray(one["controller"], np.float32).tolist(),
                "environment_state": {k: float(v) for k, v in one["environment_state"].items()},
                "instruction": str(one["instruction"]),
            }
        )
    return observations


def make(factory):
    """The environment that MODULE:FACTORY names."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)()


def main(arguments):
    """Answer messages until the other side hangs up; a fault is told and ends the process."""
    connection = socket.socket(fileno=int(arguments[0]))
    memory, factory = int(arguments[1]), arguments[2]
    environment = None
    try:
        environment = make(factory)
        while True:
            message = receive(connection)
            if message is None:
                return 0
            send(connection, {"observations": answer(environment, message, memory)})
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except Exception:
        # One line for the episode's row; the whole story for whoever reads the log.
        traceback.print_exc()
        send(connection, {"error": traceback.format_exc().strip().splitlines()[-1]})
        return 1
    finally:
        if environment is not None:
            environment.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
