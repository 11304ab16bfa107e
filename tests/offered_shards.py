"""Shards as somebody offers them: small LeRobot data sets, and ways to spoil one."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simulated_episodes

from dualvla.data import lerobot
from dualvla.data.lerobot import ACTION, CAMERA
from dualvla.store import client, shards

SIZE = 32


def write(root: Path, *seeds: int) -> Path:
    """A data set with one episode a seed, each with actions of its own."""
    features, pictures = lerobot.simulation_features(SIZE), simulated_episodes.pictures(SIZE)
    with lerobot.Writer(root, 5, "widowx", features, simulated_episodes.ABOUT) as writer:
        for seed in seeds:
            columns = simulated_episodes.columns(seed)
            columns[ACTION][:, 0] += np.float32(1e-3) * np.random.default_rng(seed).random()
            writer.add(columns, {CAMERA: pictures}, "put carrot on plate")
    return root


def truncate(root: Path) -> None:
    """As a broken upload leaves it."""
    path = data_file(root)
    path.write_bytes(path.read_bytes()[:-2000])


def put_nan(root: Path) -> None:
    """The fourth frame's action is no number."""
    path = data_file(root)
    table = pq.read_table(path)
    rows = table[ACTION].to_pylist()
    rows[3][2] = math.nan
    place = table.schema.get_field_index(ACTION)
    column = pa.array(rows, table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)


def change_convention(root: Path) -> None:
    """Another meaning of the gripper's command."""
    path = root / "meta/dualvla.json"
    about = json.loads(path.read_text())
    about["convention"]["gripper"] = "absolute, +1 closed, -1 open"
    path.write_text(json.dumps(about))


def data_file(root: Path) -> Path:
    """The only file of frames."""
    (path,) = (root / "data").rglob("*.parquet")
    return path


def offer(where: client.Place, root: Path, name: str) -> None:
    """Upload a folder as a shard, what makes it whole last."""
    s3 = client.connect(where)
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    for file in sorted(names, key=lambda file: (file == shards.LAST, file)):
        key = f"{shards.OFFERED}/{name}/{file}"
        s3.upload_file(str(root / file), where.bucket, key)
