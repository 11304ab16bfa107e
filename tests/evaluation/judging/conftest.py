"""Cases with pictures in which things can be seen, and an endpoint on loopback."""

import dataclasses

import numpy as np
import pytest
from judge_endpoint import ENDS, serve

from dualvla.evaluation.judging.cases import Case
from dualvla.evaluation.judging.endpoint import Endpoint

SIZE = 100  # pixels: a position said is a pixel
COLOURS = {"source": (230, 120, 20), "target": (40, 90, 220), "gripper": (60, 60, 60)}


@pytest.fixture(autouse=True)
def _direct(monkeypatch, tmp_path):
    """No proxy on the way to loopback, no endpoint of whoever runs this, no shared cache."""
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ENDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def case(clip):
    """`case(number, speaks=True)`: a perfect trajectory with a film."""

    def make(number=0, speaks=True, every=1, task="carrot"):
        drawn = clip(speaks=speaks, every=every)
        tremor = np.random.default_rng(number).normal(0, 0.0005, drawn.actions[:, :3].shape)
        actions = drawn.actions.copy()
        actions[:, :3] += tremor
        drawn = dataclasses.replace(drawn, actions=actions)
        key = ("official", task, str(number))
        return Case(key, "put carrot on plate", drawn, True, film(drawn))

    return make


def film(clip):
    """Pictures of a clip: the thing to move orange, its goal blue."""

    def show(steps):
        pictures = []
        for step in steps:
            picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
            for thing in ("target", "gripper", "source"):
                u, v = (round(SIZE * x) for x in clip.points(thing, "uv")[step])
                picture[max(0, v - 4) : v + 5, max(0, u - 4) : u + 5] = COLOURS[thing]
            pictures.append(picture)
        return pictures

    return show


@pytest.fixture
def endpoint():
    """`endpoint(behave, **fields)`: an endpoint of a server that answers by `behave`."""
    servers = []

    def make(behave, **fields):
        server = serve(behave)
        servers.append(server)
        waits = []
        settings = {
            "url": server.url,
            "model": "looker",
            "key": "sk-very-secret-key",
            "sleep": waits.append,
            "jitter": lambda: 0.0,
            **fields,
        }
        made = Endpoint(**settings)
        return made, server, waits

    yield make
    for server in servers:
        server.stop()
