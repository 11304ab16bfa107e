"""Two launched processes against one."""

import os
import subprocess
from pathlib import Path

import pytest
import sharded_runs
import torch
from safetensors.torch import load_file

from dualvla import files

pytestmark = pytest.mark.slow  # three interpreters start
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes wrote, started as a stage is."""
    out = tmp_path_factory.mktemp("two")
    config = ROOT / "infra/accelerate/cpu-2.yaml"
    command = ["accelerate", "launch", "--config_file", config]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "-m", "sharded_runs", out],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("test: 6/6") == 2  # of two processes and runs, one is heard
    return out


@pytest.mark.parametrize("name", sharded_runs.OBJECTIVES)
def test_two_processes_train_as_one_does(name, two, tmp_path):
    model, alone = sharded_runs.fit(sharded_runs.OBJECTIVES[name], tmp_path)
    together = files.read_json(two / f"{name}.json")
    assert together["processes"] == 2
    for one, both in zip(alone["curve"], together["curve"], strict=True):
        assert both == pytest.approx(one, abs=1e-5, rel=1e-5)
    assert together["heldout"] == pytest.approx(alone["heldout"], abs=1e-4)
    for key, value in load_file(two / f"{name}.safetensors").items():
        torch.testing.assert_close(value, model.get_parameter(key), atol=1e-4, rtol=1e-4)


def test_a_stopped_run_of_two_processes_ends_with_the_same_weights(two):
    assert files.read_json(two / "resumed.json") == files.read_json(two / "generalist.json")
    whole, resumed = (load_file(two / f"{n}.safetensors") for n in ("generalist", "resumed"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
