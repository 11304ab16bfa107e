import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dualvla import config, files
from dualvla.data import conversations
from dualvla.objects import SLOTS

ROOT = Path(__file__).parents[2]
SIZES = {"scenes": 10, "heldout_scenes": 4, "questions_per_scene": 4}


def run(folder: Path, workers: int) -> Path:
    patch = {"simulation": {"workers": workers, "image_size": 96}, "multimodal": SIZES}
    merged = config.merge(config.read_yaml(ROOT / "params.yaml"), patch)
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(merged))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DUALVLA_CACHE": str(ROOT / ".cache")}
    command = [sys.executable, "-m", "dualvla.stages.multimodal"]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return folder / "data" / "multimodal"


@pytest.mark.sim
@pytest.mark.slow
def test_the_stage_writes_the_same_data_with_one_and_two_workers(tmp_path: Path) -> None:
    out = run(tmp_path / "one", 1)
    assert json.loads((out / "quality.json").read_text())["success"]
    train, heldout = (conversations.load(out, split) for split in ("train", "heldout"))
    pictures = conversations.pictures(out)
    assert len(pictures) == SIZES["scenes"] + SIZES["heldout_scenes"]
    assert {talk.image for talk in train}.isdisjoint(talk.image for talk in heldout)
    assert {talk.image for talk in train + heldout} == set(pictures)
    assert len(train) <= SIZES["scenes"] * SIZES["questions_per_scene"]
    labels = conversations.labels(out)
    assert set(labels["object"]) <= set(SLOTS)
    assert (labels["object"] == "gripper").sum() == len(pictures)
    assert files.sha256(out) == files.sha256(run(tmp_path / "two", 2))
