"""A LeRobot folder as flat tables: one row a frame, an episode, a task, a sampled picture.

Read with pyarrow from the files themselves, not through `data.lerobot`: that reader trusts the
metadata which a gate has to check, and a blind spot shared by writer and reader would stay one.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dualvla import files
from dualvla.conventions import ACTION_NAMES, ENVIRONMENT_STATE_NAMES, STATE_NAMES
from dualvla.data.features import ACTION, CAMERA, CONTROLLER, ENVIRONMENT, STATE
from dualvla.errors import UserError

SCALARS = ("episode_index", "frame_index", "timestamp", "index", "task_index")
VECTORS = {
    ACTION: ("action", ACTION_NAMES),
    STATE: ("state", STATE_NAMES),
    CONTROLLER: ("controller", STATE_NAMES[:6]),
    ENVIRONMENT: ("environment", ENVIRONMENT_STATE_NAMES),
}
PICTURES = 96  # decoded of a data set: enough to see a systematic fault, quick to do
SPOTS = (0.0, 0.5, 1.0)  # which frames of a sampled episode


@dataclass(frozen=True)
class Folder:
    """A data set on disk: its metadata and the frames' numbers."""

    root: Path
    about: dict[str, Any]  # meta/dualvla.json
    info: dict[str, Any]  # meta/info.json
    episodes: pd.DataFrame  # dataset, episode_index, task, length
    table: pa.Table  # columns of all frames but pictures and language

    @property
    def name(self) -> str:
        """The data set's identity."""
        return str(self.about["name"])


def read(root: Path) -> Folder:
    """Read metadata and numbers of a data set.

    Raises:
        UserError: metadata or data files are missing or are no parquet.
    """
    about, info = (files.read_json(root / "meta" / f"{n}.json") for n in ("dualvla", "info"))
    rows = pq.read_table(
        _parquets(root / "meta" / "episodes"), columns=["episode_index", "tasks", "length"]
    )
    episodes = pd.DataFrame(
        {
            "dataset": str(about["name"]),
            "episode_index": rows["episode_index"].to_numpy(),
            "task": [tasks[0] if tasks else "" for tasks in rows["tasks"].to_pylist()],
            "length": rows["length"].to_numpy(),
        }
    )
    paths = _parquets(root / "data")
    known = pq.ParquetFile(paths[0]).schema_arrow.names
    wanted = [name for name in (*SCALARS, *VECTORS) if name in known]
    table = pa.concat_tables([pq.read_table(path, columns=wanted) for path in paths])
    return Folder(root, about, info, episodes, table)


def frames(folder: Folder) -> pd.DataFrame:
    """One row a frame: identity, `action.x`, `state.x`, ..., and derived columns.

    Derived, all 0 or greater: `frame_gap` (frame_index against the position in its episode, 0 if
    contiguous from 0), `time_error` (seconds between timestamp and frame_index / fps), `index_gap`
    (index against the row).
    """
    data = {"dataset": np.full(len(folder.table), folder.name, dtype=object)}
    for name in folder.table.column_names:
        values = _stack(folder.table[name])
        if name in VECTORS:
            prefix, names = VECTORS[name]
            width = values.shape[1] if values.ndim == 2 else 0
            data |= {f"{prefix}.{n}": values[:, i] for i, n in enumerate(names[:width])}
        elif values.ndim == 1:
            data[name] = values
    table = pd.DataFrame(data)
    if {"episode_index", "frame_index"} <= set(table):
        position = table.groupby("episode_index", sort=False).cumcount()
        table["frame_gap"] = (table["frame_index"] - position).abs()
        if "timestamp" in table:
            exact = table["frame_index"] / float(folder.info["fps"])
            table["time_error"] = (table["timestamp"] - exact).abs()
    if "index" in table:
        table["index_gap"] = (table["index"] - np.arange(len(table))).abs()
    return table


def episodes(folder: Folder, rows: pd.DataFrame) -> pd.DataFrame:
    """One row an episode: identity, task, length, and what its frames say.

    Derived: `frames` (rows found), `instruction_words`, `action_hash`, and of simulated episodes
    `success_last` (environment state at the last frame).
    """
    table = folder.episodes.copy()
    grouped = rows.groupby("episode_index", sort=False)
    table["frames"] = table["episode_index"].map(grouped.size()).fillna(0).astype(int)
    table["instruction_words"] = [len(task.split()) for task in table["task"]]
    if "environment.success" in rows:
        table["success_last"] = table["episode_index"].map(grouped["environment.success"].last())
    actions = [f"action.{name}" for name in ACTION_NAMES]
    if set(actions) <= set(rows):
        table["action_hash"] = table["episode_index"].map(
            {index: _hash(part[actions].to_numpy()) for index, part in grouped}
        )
    return table


def tasks(table: pd.DataFrame, expected: Sequence[str]) -> pd.DataFrame:
    """One row an instruction, expected or found: `item`, `episodes`, `expected` (0 or 1)."""
    counts = table["task"].value_counts().to_dict()
    names = [*expected, *sorted({str(name) for name in counts} - set(expected))]
    return pd.DataFrame(
        {
            "item": names,
            "episodes": [counts.get(name, 0) for name in names],
            "expected": [int(name in expected) for name in names],
        }
    )


def pictures(folder: Folder) -> pd.DataFrame:
    """One row a sampled frame: `decoded` (0 or 1), `width`, `height`, `contrast` (grey levels).

    First, middle and last frame of episodes spread evenly over the data set.
    """
    found = []
    for episode, frame, data in _sample(folder):
        row: dict[str, Any] = {
            "dataset": folder.name,
            "episode_index": episode,
            "frame_index": frame,
        }
        found.append(row | picture(data))
    columns = ["dataset", "episode_index", "frame_index", *picture(None)]
    return pd.DataFrame(found, columns=columns)


def picture(data: bytes | None) -> dict[str, Any]:
    """Decode an encoded picture: `decoded`, `width`, `height`, `contrast`; 0 where it fails."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            width, height = image.size
            contrast = float(np.asarray(image.convert("L")).std())
    except (UnidentifiedImageError, OSError):
        return {"decoded": 0, "width": 0, "height": 0, "contrast": 0.0}
    return {"decoded": 1, "width": width, "height": height, "contrast": contrast}


def _sample(folder: Folder) -> Iterator[tuple[int, int, bytes | None]]:
    count = len(folder.episodes)
    chosen = np.unique(np.linspace(0, count - 1, min(count, PICTURES // len(SPOTS))).astype(int))
    wanted = set(folder.episodes["episode_index"].to_numpy()[chosen].tolist())
    for path in _parquets(folder.root / "data"):
        file = pq.ParquetFile(path)
        if CAMERA not in file.schema_arrow.names:
            return
        for group in range(file.num_row_groups):
            indices = file.read_row_group(group, columns=["episode_index"])[
                "episode_index"
            ].to_numpy()
            here = [index for index in np.unique(indices).tolist() if index in wanted]
            if not here:
                continue
            data = file.read_row_group(group, columns=["frame_index", CAMERA])
            for index in here:
                (places,) = np.nonzero(indices == index)
                for place in sorted({int(places[round(s * (len(places) - 1))]) for s in SPOTS}):
                    value = data[CAMERA][place].as_py()
                    frame = data["frame_index"][place].as_py()
                    yield index, frame, value["bytes"] if isinstance(value, dict) else None


def _stack(column: Any) -> Any:
    """A column as (N,) or (N, k); NaN stays, a null becomes NaN."""
    column = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    if pa.types.is_list(column.type):
        lengths = {len(row) for row in column.to_pylist() if row is not None}
        if len(lengths) != 1 or column.null_count:
            return np.full((len(column), 0), np.nan)  # ragged: no entry exists in every row
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), lengths.pop())
    return column.to_numpy(zero_copy_only=False)


def _hash(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float32).tobytes()).hexdigest()[:16]


def _parquets(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise UserError("no parquet files", where=str(folder), fix="write the data set anew")
    return paths
