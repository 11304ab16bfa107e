from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dualvla import config, files, paths
from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.errors import UserError
from dualvla.evaluation import protocol, simpler
from dualvla.interface import Decision
from dualvla.simulation.episodes import Trajectory
from dualvla.stages import score

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path, monkeypatch) -> config.Params:
    monkeypatch.chdir(tmp_path)
    return config.load(REPOSITORY / "params.yaml")


def evaluated(params, model, reason="auto", count=21):
    """Results of an evaluation in which every second episode succeeds and the first crashed."""
    settings = params.evaluate.model_copy(update={"episodes_per_task": count})
    simulation = params.simulation.model_copy(update={"tasks": ("carrot",)})
    nightly = protocol.nightly(settings, simulation)
    planned = protocol.resolve(nightly, "generated", params.seed).planned
    rng = np.random.default_rng(0)
    found = []
    for index, item in enumerate(planned):
        steps = 8 if index else 0
        actions = rng.normal(0, 0.01, (steps, 7)).astype(np.float32)
        shape = (steps + bool(steps), len(ENVIRONMENT_STATE_NAMES))
        environment = np.cumsum(rng.normal(0, 0.02, shape), axis=0).astype(np.float32)
        at = ENVIRONMENT_STATE_NAMES.index
        environment[:, [at(k) for k in ("grasped", "moved_wrong", "success")]] = 0
        environment[steps:, at("success")] = index % 2
        decision = Decision(actions, "subtask: reach for the carrot ; move: left", 9)
        found.append(
            Trajectory(
                job=item.job,
                status="ok" if index else "error",
                error="" if index else "the worker died",
                states=np.zeros((shape[0], 7), np.float32),
                controllers=np.zeros((shape[0], 6), np.float32),
                actions=actions,
                environment_states=environment,
                decisions=[(0, decision)] if index else [],
                images=[],
                frames=[],
                decision_seconds=[0.01] if index else [],
            )
        )
    outcome = simpler.collect(planned, found, "last_step")
    out = paths.EVALUATION / model
    out.mkdir(parents=True)
    outcome.episodes.to_parquet(out / "results.parquet", index=False)
    outcome.steps.to_parquet(out / "steps.parquet", index=False)
    files.write_json(out / "summary.json", {"reason": reason, "success_mode": "last_step"})


def test_every_finished_trajectory_is_rated_and_the_same_input_gives_the_same_bytes(params):
    evaluated(params, "dualvla")
    score.main(params, model="dualvla")
    out = paths.SCORE / "dualvla"
    first = files.sha256(out)
    score.main(params, model="dualvla")
    assert files.sha256(out) == first
    rows = pd.read_parquet(out / "scores.parquet")
    summary = files.read_json(out / "summary.json")
    assert (summary["n"], summary["errors"]) == (len(rows), 1) == (20, 1)
    assert summary["scale"] == "reasoning"
    assert summary["success"] == pytest.approx(1 / 2)
    assert summary["score"] == pytest.approx(rows["score"].mean())
    assert (rows["score"][~rows["success"]] == 0).all()
    assert rows[["r", "a", "i", "ra"]].notna().all(axis=None)


def test_a_specialist_is_rated_on_its_own_scale(params):
    evaluated(params, "specialist")
    score.main(params, model="specialist")
    summary = files.read_json(paths.SCORE / "specialist" / "summary.json")
    assert summary["scale"] == "specialist"
    assert summary["r"] is None
    assert summary["ra"] is None
    rows = pd.read_parquet(paths.SCORE / "specialist" / "scores.parquet")
    expected = rows["a"] * rows["i"] * rows["success"] / 100
    assert np.allclose(rows["score"], expected.astype(float))


def test_a_model_that_is_not_evaluated_is_refused(params):
    with pytest.raises(UserError, match="no such file"):
        score.main(params, model="dualvla")
