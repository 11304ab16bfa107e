"""Policy servers in processes of their own, and one that misbehaves in a thread."""

import contextlib
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
from websockets.sync import client
from websockets.sync import server as plain

from dualvla.conventions import ENVIRONMENT_STATE_NAMES, WIDOWX_SIMULATION
from dualvla.interface import Observation
from dualvla.serving import access, codec

RANDOM = """
import sys
from dualvla.conventions import WIDOWX_SIMULATION
from dualvla.serving import messages, server
from dualvla.simulation.random_policy import RandomPolicy

facts = messages.Facts("random", WIDOWX_SIMULATION, (messages.STATE, messages.PROMPT))
host, port = sys.argv[1], int(sys.argv[2])
server.serve(RandomPolicy(), facts, host, port, ready=lambda url: print(url, flush=True))
"""


@contextlib.contextmanager
def process(*command, **environment):
    """A server's process and the address it printed; ended at the end."""
    clean = {name: value for name, value in os.environ.items() if name != access.TOKEN}
    running = subprocess.Popen(
        [sys.executable, *command],
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = running.stdout.readline()
        assert line.startswith("ws://"), running.communicate()
        yield running, line.split()[0]
    finally:
        running.kill()
        running.communicate()


def random_policy(host="127.0.0.1", port=0, **environment):
    """A process that serves the random policy without importing torch."""
    return process("-c", RANDOM, host, str(port), **environment)


@contextlib.contextmanager
def answering(answer, greeting=None):
    """The address of a server in a thread that says what `answer(request)` gives: bytes or text."""
    greeting = {"convention": WIDOWX_SIMULATION.to_json()} if greeting is None else greeting
    talking = []

    def talk(connection):
        talking.append(connection)
        connection.send(greeting if isinstance(greeting, bytes | str) else codec.encode(greeting))
        for message in connection:
            said = answer(codec.decode(message))
            if said is None:
                return
            connection.send(said)

    with plain.serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
            for connection in talking:  # else their threads outlive the tests
                connection.close()


@contextlib.contextmanager
def openpi_client(url):
    """A function that asks as openpi's client does: one observation there, one answer back."""
    with client.connect(url, compression=None, max_size=None) as connection:
        metadata = codec.decode(connection.recv())

        def infer(observation):
            connection.send(codec.encode(observation))
            answer = connection.recv()
            if isinstance(answer, str):
                raise RuntimeError(answer)
            return codec.decode(answer)

        yield infer, metadata


def observation(seed=0, instruction="put carrot on plate", size=32):
    """Something that might be seen."""
    draw = np.random.default_rng(seed)
    return Observation(
        image=draw.integers(0, 255, (size, size, 3), np.uint8),
        state=draw.uniform(0, 0.3, 7).astype(np.float32),
        controller=draw.uniform(0, 0.3, 6).astype(np.float32),
        environment_state=draw.uniform(0, 1, len(ENVIRONMENT_STATE_NAMES)).astype(np.float32),
        instruction=instruction,
    )


def plain_request(seen, **more):
    """What an openpi client sends of an observation."""
    keys = {"observation/image": seen.image, "observation/state": seen.state}
    return keys | {"prompt": seen.instruction} | more


def played(policy, rounds=3):
    """Decisions of two slots, in changing batches, over two episodes of the first one."""
    decisions = []
    policy.reset(0, "put carrot on plate", 3)
    policy.reset(1, "stack the cubes", 2**62)
    for turn in range(rounds):
        seen = [observation(turn), observation(10 + turn, "stack the cubes")]
        decisions += policy.act([0, 1], seen)
        decisions += policy.act([1], seen[1:])
    policy.reset(0, "stack the cubes", 4)
    return decisions + policy.act([0], [replace(observation(9), instruction="stack the cubes")])


def assert_same(ones, others):
    """Two lists of decisions are the same to the last bit."""
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.actions.tobytes() == other.actions.tobytes()
        assert one.actions.shape == other.actions.shape
        assert (one.text, one.tokens) == (other.text, other.tokens)
