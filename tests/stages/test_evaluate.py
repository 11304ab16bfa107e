from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dualvla import config, conventions, files, paths
from dualvla.data import language
from dualvla.errors import UserError
from dualvla.stages import evaluate, score

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path, monkeypatch) -> config.Params:
    monkeypatch.chdir(tmp_path)
    # The asset pack is made once and shared with other runs in the repository.
    monkeypatch.setenv("DUALVLA_CACHE", str(REPOSITORY / ".cache"))
    return config.load(REPOSITORY / "params.yaml")


def test_a_model_that_is_not_listed_is_refused(params):
    with pytest.raises(UserError, match=r"evaluate\.models"):
        evaluate.main(params, model="random_mask")


def test_a_model_that_is_not_trained_is_refused(params):
    with pytest.raises(UserError, match="no model dualvla"):
        evaluate.main(params, model="dualvla")


@pytest.mark.sim
@pytest.mark.slow
def test_an_untrained_model_is_evaluated_and_scored(params):
    from dualvla.models import actions, policy
    from dualvla.training import base

    settings = params.evaluate.model_copy(update={"episodes_per_task": 1, "reason": "every_n"})
    simulation = params.simulation.model_copy(update={"tasks": ("carrot",), "workers": 1})
    params = params.model_copy(update={"evaluate": settings, "simulation": simulation})
    model, processor = base.build(params, language.lexicon())
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 0.01, (20, 6)).astype(np.float32)
    statistics = actions.fit([np.cumsum(steps, axis=0)], [steps])
    made = policy.PolicyConfig(params.model, statistics, conventions.WIDOWX_SIMULATION, True)
    folder = paths.model("dualvla")
    folder.mkdir(parents=True)
    policy.VlaPolicy(model, processor, made).write(folder, resolved={}, environment={})

    evaluate.main(params, model="dualvla")
    out = paths.EVALUATION / "dualvla"
    summary = files.read_json(out / "summary.json")
    assert [row["n"] for row in summary["rates"]] == [1, 1]
    assert summary["assets"] == simulation.assets
    assert summary["reason"] == f"every_{settings.reason_every}"
    steps = pd.read_parquet(out / "steps.parquet")
    assert len(steps) == 61
    assert steps["wrote"].sum() >= 3
    assert [path.name for path in (out / "videos").iterdir()] == ["official-carrot-official-00.mp4"]
    again = {name: files.sha256(out / f"{name}.parquet") for name in ("results", "steps")}
    evaluate.main(params, model="dualvla")
    assert {name: files.sha256(out / f"{name}.parquet") for name in again} == again

    score.main(params, model="dualvla")
    rated = files.read_json(paths.SCORE / "dualvla" / "summary.json")
    assert (rated["scale"], rated["n"]) == ("reasoning", 1)
    assert 0 <= rated["score"] <= 1
