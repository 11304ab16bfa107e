"""Cases with pictures in which things can be seen, and an endpoint on loopback."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from judge_endpoint import ENDS, serve

from dualvla import files
from dualvla.conventions import ACTION_NAMES, ENVIRONMENT_STATE_NAMES
from dualvla.evaluation import simpler, videos
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


@pytest.fixture(scope="session")
def case(clip):
    """`case(number, speaks=True)`: a perfect trajectory with a film."""

    def make(number=0, speaks=True, every=1, task="carrot"):
        drawn = clip(speaks=speaks, every=every)
        tremor = np.random.default_rng(number).normal(0, 0.0005, drawn.actions[:, :3].shape)
        actions = drawn.actions.copy()
        actions[:, :3] += tremor
        drawn = dataclasses.replace(drawn, actions=actions)
        key = ("official", task, f"official-{number:02d}")
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


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory):
    """`evaluation(folder, cases, films=None)`: an evaluation folder as evaluations write them."""
    path, made = tmp_path_factory.mktemp("films") / "film.mp4", {}

    def encoded(one):
        """Encoding takes longer than all else: the same pictures are written once a session."""
        known = one.clip.environment.tobytes()
        if known not in made:
            count = len(one.clip.environment)
            texts, told = [*one.clip.texts, None], one.instruction
            shown = videos.Film(one.film(range(count)), texts, told, 5.0, one.clip.actions)
            videos.write(path, shown)
            made[known] = path.read_bytes()
        return made[known]

    def write(folder, found, films=None, crashed=0, reason="auto"):
        filmed = found if films is None else found[:films]
        rows, steps = [], []
        for one in found:
            key = dict(zip(simpler.KEY, one.key, strict=True))
            rows.append(key | {"status": "ok", "last_step": one.success})
            steps.append(_steps(one.clip).assign(**key))
        for number in range(crashed):
            rows.append(
                dict(zip(simpler.KEY, ("official", "carrot", f"x{number}"), strict=True))
                | {"status": "error", "last_step": None}
            )
        folder.mkdir(parents=True)
        pd.DataFrame(rows).astype({"last_step": "boolean"}).to_parquet(folder / simpler.EPISODES)
        pd.concat(steps, ignore_index=True).to_parquet(folder / simpler.STEPS)
        summary = {"model": folder.name, "reason": reason, "success_mode": "last_step"}
        files.write_json(folder / "summary.json", summary)
        (folder / "videos").mkdir()
        for one in filmed:
            (folder / "videos" / f"{'-'.join(one.key)}.mp4").write_bytes(encoded(one))
        return folder

    return write


def _steps(clip):
    """Rows of steps.parquet."""
    count = len(clip.actions)
    rows = pd.DataFrame({"step": np.arange(count + 1)})
    rows["decision"], rows["wrote"] = [*clip.decided, False], [*clip.wrote, False]
    rows["text"] = pd.Series([*clip.texts, None], dtype="string")
    actions = np.vstack([clip.actions, np.full(7, np.nan)])
    for at, name in enumerate(ACTION_NAMES):
        rows[f"action.{name}"] = actions[:, at]
    rows["state.yaw"] = clip.yaw
    return pd.concat(
        [rows, pd.DataFrame(clip.environment, columns=ENVIRONMENT_STATE_NAMES)], axis=1
    )
