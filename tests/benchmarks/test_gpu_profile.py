import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu_profile.py"


def profile(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_refuses(tmp_path):
    done = profile("--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no CUDA device ->")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_rehearsal_measures_and_goes_on_where_it_stopped(tmp_path):
    kept = tmp_path / "500M-checkpointing1-compile0.json"
    kept.write_text(json.dumps({"status": "kept"}))
    for name in ("500M-checkpointing0-compile1", "500M-checkpointing1-compile1"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"status": "no compiler here"}))
    wanted = ["--device", "cpu", "--tiny", "--batch", "2", "--steps", "1", "--only", "500M"]
    done = profile(*wanted, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    cases = summary["cases"]
    found = cases["500M-checkpointing0-compile0"]
    assert found["status"] == "measured", found
    assert found["samples_per_second"] > 0
    assert found["gflop_per_sample"] > 0
    assert found["mfu"] is None  # of no known device
    assert cases["500M-checkpointing1-compile0"]["status"] == "kept"
    assert "| 500M | False | False |" in done.stdout
