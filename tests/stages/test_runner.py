import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGE = '''"""A stage that squares numbers."""
from dualvla.stages import runner

def main(params, model):
    print(sum(i * i for i in range(10**6)), model)

if __name__ == "__main__":
    runner.run(main, "model")
'''


def run(folder, *arguments, stage=STAGE, **environment):
    (folder / "squares.py").write_text(stage)
    return subprocess.run(
        [sys.executable, "-m", "squares", "--params", str(ROOT / "params.yaml"), *arguments],
        cwd=folder,
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), **environment},
        text=True,
        capture_output=True,
        check=False,
    )


def test_a_finished_stage_leaves_its_cost(tmp_path):
    assert run(tmp_path, "--model", "dualvla").returncode == 0
    timing = json.loads((tmp_path / ".cache/timings/squares@dualvla.json").read_text())
    assert timing["stage"] == "squares"
    assert timing["selection"] == {"model": "dualvla"}
    assert 0 < timing["cpu_seconds"] < 60
    assert 0 <= timing["seconds"] < 60
    assert 10 < timing["peak_rss_mib"] < 4096


def test_bad_parameters_are_one_line_and_exit_code_two(tmp_path):
    (tmp_path / "params.yaml").write_text("sed: 1")
    done = run(tmp_path, "--model", "dualvla", "--params", "params.yaml")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".cache").exists()


TRAINS = STAGE.replace('"model")', '"model", trains=True)')


@pytest.mark.slow
def test_a_stage_that_trains_starts_itself_in_as_many_processes_as_a_file_says(tmp_path):
    config = str(ROOT / "infra/accelerate/cpu-2.yaml")
    done = run(tmp_path, "--model", "dualvla", stage=TRAINS, DUALVLA_LAUNCH=config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("333332833333500000 dualvla") == 2
    assert done.stdout.count("squares: done in") == 1
    assert (tmp_path / ".cache/timings/squares@dualvla.json").is_file()


def test_a_launch_configuration_that_is_not_there_is_refused(tmp_path):
    done = run(tmp_path, "--model", "dualvla", stage=TRAINS, DUALVLA_LAUNCH="none.yaml")
    assert done.returncode == 2
    assert "no such launch configuration" in done.stderr
    assert len(done.stderr.splitlines()) == 1
