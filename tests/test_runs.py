"""A run of the ablation is other parameters and other folders, and nothing else."""

from pathlib import Path

import pytest

from dualvla import config, paths, runs
from dualvla.errors import UserError
from dualvla.evaluation import protocol

PARAMS = config.load(Path(__file__).parents[1] / "params/default.yaml")


def test_a_budget_scales_both_trainings_and_the_seed_is_the_run_s():
    run = runs.resolve(PARAMS, "long-2")
    assert run.seed == 2
    assert run.generalist.steps == 3 * PARAMS.generalist.steps
    assert run.distill.steps == 3 * PARAMS.distill.steps
    assert run.specialist == PARAMS.specialist
    assert run.evaluate.videos_per_task == 0


def test_every_run_meets_the_same_starts_400_of_each_set_over_three_seeds():
    keys = []
    for run in ("short-0", "short-1", "start-2"):
        params = runs.resolve(PARAMS, run)
        chosen = protocol.nightly(params.evaluate, params.simulation)
        planned = protocol.resolve(chosen, params.simulation.assets, params.seed).planned
        keys.append([(item.starts, item.job.task, item.job.start.id) for item in planned])
    assert keys[0] == keys[1] == keys[2]
    counts = {name: sum(key[0] == name for key in keys[0]) for name in ("official", "shifted")}
    assert counts == {"official": 136, "shifted": 136}


@pytest.mark.parametrize("name", ["short", "short-9", "tall-0", "", "short-00"])
def test_a_run_that_is_not_in_the_ablation_is_refused(name):
    with pytest.raises(UserError, match="no run"):
        runs.resolve(PARAMS, name)


def test_what_comes_before_the_generalist_is_shared():
    assert paths.model("specialist", "short-0") == paths.model("specialist")
    assert paths.model("dualvla", "short-0") == Path("ablation/models/short-0/dualvla")
    found = paths.results(paths.EVALUATION, "dualvla", "long-1")
    assert found == Path("ablation/results/evaluate/long-1/dualvla")


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"seeds": [0, 0]}, "listed twice"),
        ({"models": ["specialist"]}, "neither the generalist"),
        ({"budgets": ["huge"]}, "has no factor"),
        ({"starts": {"elsewhere": 3}}, "starts"),
    ],
)
def test_a_contradictory_ablation_is_refused(patch, says):
    values = config.merge(PARAMS.model_dump(mode="json"), {"ablation": patch})
    with pytest.raises(UserError, match=says):
        config.parse(values)
