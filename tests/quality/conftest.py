"""A small, clean workspace, written with the project's own writer."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dualvla import config, conventions
from dualvla.data import features as columns_of
from dualvla.data import lerobot
from dualvla.data.lerobot import LANGUAGE
from dualvla.stages import annotate

ROOT = Path(__file__).parents[2]
EPISODES, FRAMES, SIZE = 4, 12, 32
INSTRUCTIONS = ("put carrot on plate", "stack the green block on the yellow block")


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def params() -> config.Params:
    """Two tasks, two episodes each, tiny pictures."""
    patch = {
        "simulation": {"tasks": ["carrot", "stack"], "image_size": SIZE},
        "demonstrations": {"per_task": 2},
        "multimodal": {"scenes": 6, "heldout_scenes": 2, "questions_per_scene": 2},
    }
    return config.parse(config.merge(config.read_yaml(ROOT / "params.yaml"), patch))


def picture(seed: int, size: int = SIZE) -> bytes:
    """PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def arrays(seed: int, frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Columns of a plausible simulated episode that ends in success."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-0.02, 0.02, (frames, 7)).astype(np.float32)
    action[:, 6] = np.where(np.arange(frames) < frames // 2, 1, -1)
    state = rng.uniform(0.1, 0.3, (frames, 7)).astype(np.float32)
    environment = np.zeros((frames, len(conventions.ENVIRONMENT_STATE_NAMES)), np.float32)
    environment[:, [7, 8, 16, 17]] = 0.4  # where source and target are seen
    environment[-1, conventions.ENVIRONMENT_STATE_NAMES.index("success")] = 1
    return {
        lerobot.ACTION: action,
        lerobot.STATE: state,
        lerobot.CONTROLLER: state[:, :6],
        lerobot.ENVIRONMENT: environment,
    }


@pytest.fixture
def encoded():
    """A picture by its seed."""
    return picture


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """A clean simulated data set: two episodes of each of two tasks."""
    root = tmp_path / "data" / "demonstrations"
    about = lerobot.About("sim", "simulation", conventions.WIDOWX_SIMULATION, "generated")
    with lerobot.Writer(root, 5, "widowx", lerobot.simulation_features(SIZE), about) as writer:
        for episode in range(EPISODES):
            images = [picture(100 * episode + frame) for frame in range(FRAMES)]
            writer.add(arrays(episode), {lerobot.CAMERA: images}, INSTRUCTIONS[episode // 2])
    return root


@pytest.fixture
def annotated(episodes, params) -> Path:
    """The clean data set, annotated."""
    root = episodes.with_name("annotated")
    annotate.write(lerobot.open_dataset(episodes), root, params)
    return root


@pytest.fixture
def edit():
    """Rewrite a column of a data set: edit(root, column, change of a list; None drops it)."""
    return _edit


def _edit(root: Path, column: str, change) -> None:
    for path in sorted((root / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        values = change(table[column].to_pylist())
        if values is None:
            table = table.drop_columns([column])
        else:
            # Arrow makes the JSON inside a language column from text only.
            plain = (
                columns_of.language_type(column, pa.string()) if column in LANGUAGE else field.type
            )
            table = table.set_column(place, field, pa.array(values, plain).cast(field.type))
        pq.write_table(table, path, row_group_size=FRAMES)
