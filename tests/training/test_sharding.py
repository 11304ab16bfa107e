"""Two launched processes against one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_runs
import torch
import yaml
from safetensors.torch import load_file

from dualvla import files
from dualvla.errors import UserError
from dualvla.training import sharding

pytestmark = pytest.mark.slow  # three interpreters start
ROOT = Path(__file__).parents[2]


def launch_config(folder: Path, name: str) -> Path:
    """A configuration of `infra/accelerate`, for two processes without a GPU."""
    patch = {"use_cpu": True, "num_processes": 2, "main_process_port": 0, "mixed_precision": "no"}
    values = yaml.safe_load((ROOT / "infra/accelerate" / name).read_text())
    path = folder / name
    path.write_text(yaml.safe_dump(values | patch))
    return path


@pytest.fixture(scope="module", params=["cpu-2.yaml", "fsdp-8.yaml"])
def two(request, tmp_path_factory):
    """What two processes wrote, started as a stage is; whole models or shards of one."""
    out = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    command = [*launcher, "--config_file", launch_config(out, request.param)]
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
    assert done.stdout.count("test: 6/6") == 3  # of two processes one is heard
    return out


@pytest.mark.parametrize("name", sharded_runs.OBJECTIVES)
def test_two_processes_train_as_one_does(name, two, tmp_path, single_precision):
    model, alone = sharded_runs.fit(name, tmp_path)
    together = files.read_json(two / f"{name}.json")
    assert together["processes"] == 2
    for one, both in zip(alone["curve"], together["curve"], strict=True):
        assert both == pytest.approx(one, abs=1e-5, rel=1e-5)
    assert together["heldout"] == pytest.approx(alone["heldout"], abs=1e-4)
    expected = model.state_dict()
    found = load_file(two / f"{name}.safetensors")
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], atol=1e-4, rtol=1e-4)


def test_a_stopped_run_of_two_processes_ends_with_the_same_weights(two):
    assert files.read_json(two / "resumed.json") == files.read_json(two / "generalist.json")
    whole, resumed = (load_file(two / f"{n}.safetensors") for n in ("generalist", "resumed"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_recomputed_activations_are_refused_where_they_would_go_another_way(monkeypatch):
    sharding.require_kept_activations("arm decoupled")
    monkeypatch.setenv("FSDP_ACTIVATION_CHECKPOINTING", "true")
    with pytest.raises(UserError, match=r"arm decoupled.*fsdp_activation_checkpointing: false"):
        sharding.require_kept_activations("arm decoupled")
