"""Imported real data through the stages a team would run on its own."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_multimodal
import yaml

from dualvla import config, files

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY.parent / "shared/data/bridge_rlds_sample/bridge_dataset/1.0.0"
SMALL = {"steps": 6, "batch_size": 8, "checkpoint_every": 3}


def run(folder: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"dualvla.stages.{name}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of RLDS data")
def test_the_bridge_sample_is_imported_gated_pruned_and_trained_on(tmp_path):
    patch = {
        "demonstrations": {"source": "rlds", "rlds_path": str(SAMPLE)},
        "simulation": {"image_size": 64},
        "base_vlm": SMALL | {"vision_steps": 4},
        "specialist": SMALL,
        "prune": {"scene_layer": "change_point"},
    }
    merged = config.merge(config.read_yaml(REPOSITORY / "params.yaml"), patch)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged))
    tiny_multimodal.write(tmp_path / "data/multimodal", size=64)
    for name in ("demonstrations", "annotate", "base_vlm", "prune", "specialist"):
        run(tmp_path, name)
    quality = files.read_json(tmp_path / "data/demonstrations/quality.json")
    assert quality["success"]
    verdicts = pd.read_parquet(tmp_path / "data/pruned/verdicts.parquet")
    assert verdicts["episode_index"].nunique() == 25
    assert 0 < verdicts["keep"].mean() < 1
    assert (tmp_path / "models/specialist/model.safetensors").is_file()
