"""Reader of LeRobot v3.0 data sets: columns, encoded pictures and language rows, on demand.

Opening a data set reads the metadata and the files' footers, then the state and action columns to
check that every number is finite: two vectors a frame, never a picture. A data set that is not what
its info.json says is refused here, with the episode and frame, and not in the middle of a training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dualvla import conventions, files
from dualvla.conventions import Convention
from dualvla.data import features as columns_of
from dualvla.data.features import ACTION, CAMERA, PERSISTENT, STATE, Feature
from dualvla.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_KEYS = ("fps", "features", "total_episodes", "total_frames", "total_tasks", "data_path")
REWRITE = "write the data set anew"
ACTION_SIZE = len(conventions.ACTION_NAMES)


@dataclass(frozen=True)
class About:
    """What LeRobot has no place for; stored in meta/dualvla.json."""

    name: str  # identity of the data set, first part of a frame's key
    source: str  # simulation or rlds
    convention: Convention
    assets: str | None = None  # asset pack, for simulation
    cameras: Mapping[str, Any] = field(default_factory=dict)  # task -> matrices or model
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {
            "schema": 1,
            "name": self.name,
            "source": self.source,
            "assets": self.assets,
            "convention": self.convention.to_json(),
            "cameras": dict(self.cameras),
            "extra": dict(self.extra),
        }


@dataclass(frozen=True)
class Dataset:
    """An open data set; rows are frames in the order (episode_index, frame_index)."""

    root: Path
    info: dict[str, Any]
    about: About
    features: dict[str, Feature]

    @property
    def name(self) -> str:
        """Identity of the data set, first part of a frame's key."""
        return self.about.name

    @property
    def convention(self) -> Convention:
        """How its states and actions are to be read."""
        return self.about.convention

    @property
    def length(self) -> int:
        """Frames in all."""
        return int(self.info["total_frames"])

    @cached_property
    def tasks(self) -> list[str]:
        """Instructions by task_index."""
        table = _read(self.root / "meta" / "tasks.parquet").to_pandas()
        ordered = table.sort_values("task_index")
        # LeRobot keeps the instruction as the frame's index; some writers as a column.
        texts = ordered["task"] if "task" in ordered.columns else ordered.index
        return [str(text) for text in texts]

    @cached_property
    def episodes(self) -> "pd.DataFrame":
        """One row an episode: episode_index, task, length, dataset_from_index, dataset_to_index."""
        paths = sorted((self.root / "meta" / "episodes").glob("*/*.parquet"))
        tables = []
        for path in paths:
            names = [n for n in _open(path).schema_arrow.names if not n.startswith("stats/")]
            tables.append(_read(path, names))
        if not tables:
            raise UserError("no episode table", where=str(self.root / "meta"), fix=REWRITE)
        frame = pa.concat_tables(tables).to_pandas().sort_values("episode_index")
        frame["tasks"] = [[str(task) for task in tasks] for tasks in frame["tasks"]]
        frame.insert(1, "task", [tasks[0] if tasks else "" for tasks in frame["tasks"]])
        return frame.reset_index(drop=True)

    @cached_property
    def stats(self) -> dict[str, Any]:
        """meta/stats.json: feature -> min, max, mean, std, count, q01, q10, q50, q90, q99."""
        return dict(files.read_json(self.root / "meta" / "stats.json"))

    @cached_property
    def paths(self) -> list[Path]:
        """Data files in order of frames."""
        pairs = self.episodes[["data/chunk_index", "data/file_index"]].drop_duplicates()
        numbers = sorted((int(c), int(f)) for c, f in pairs.itertuples(index=False))
        template = str(self.info["data_path"])
        return [self.root / template.format(chunk_index=c, file_index=f) for c, f in numbers]

    def column(self, name: str) -> NDArray[Any]:
        """A numeric column: (N, *shape), or (N,) where the feature is one number; never a picture.

        Raises:
            UserError: no such numeric column, a null, or a row of another size than declared.
        """
        feature = self._feature(name)
        if feature.dtype not in columns_of.NUMBERS:
            fix = "use images or language for it"
            raise UserError(f"{name} is no numeric column", where=str(self.root), fix=fix)
        parts = [_read(path, [name]).column(name) for path in self.paths]
        return np.concatenate([_numbers(name, part, feature, self.root) for part in parts])

    def images(self, key: str = CAMERA, rows: Sequence[int] | None = None) -> list[bytes]:
        """Encoded pictures of the given frames (row numbers), or of all, in the order asked for.

        Only the row groups that hold an asked frame are read, and nothing is decoded.
        """
        feature = self._feature(key)
        if feature.dtype != "image":
            raise UserError(f"{key} is no image column", where=str(self.root), fix="see info.json")
        wanted = None if rows is None else {int(row) for row in rows}
        if wanted and not 0 <= min(wanted) <= max(wanted) < self.length:
            raise IndexError(f"rows {min(wanted)} to {max(wanted)} of {self.length}")
        found: dict[int, bytes] = {}
        for start, group in self._groups(key, wanted):
            data = group.combine_chunks().field("bytes")
            for offset in range(len(data)):
                if wanted is None or start + offset in wanted:
                    found[start + offset] = data[offset].as_py()
        order = range(self.length) if rows is None else [int(row) for row in rows]
        return [found[row] for row in order]

    def language(self, name: str) -> Iterator[list[dict[str, Any]]]:
        """Language rows: a list a frame for language_events, an episode for language_persistent.

        LeRobot repeats persistent rows on every frame of an episode; they are yielded once.
        """
        self._feature(name)
        starts = {int(row) for row in self.episodes["dataset_from_index"]}
        for start, group in self._groups(name, None):
            for offset in range(len(group)):
                if name != PERSISTENT or start + offset in starts:
                    yield group[offset].as_py() or []

    def rows(self, episode: int) -> range:
        """Row numbers of an episode's frames."""
        row = self.episodes.iloc[episode]
        return range(int(row["dataset_from_index"]), int(row["dataset_to_index"]))

    def _feature(self, name: str) -> Feature:
        if name not in self.features:
            known = ", ".join(self.features)
            raise UserError(f"no column {name}", where=str(self.root), fix=f"there are: {known}")
        return self.features[name]

    def _groups(self, name: str, wanted: set[int] | None) -> Iterator[tuple[int, Any]]:
        """First row number and Arrow column of each row group that holds a wanted row."""
        starts, places = self._layout
        chosen = range(len(places))
        if wanted is not None:
            found = np.searchsorted(starts, sorted(wanted), side="right") - 1
            chosen = np.unique(found).tolist()
        path, file = Path(), None
        for group in chosen:
            if places[group][0] != path:
                path = places[group][0]
                file = _open(path)
            yield int(starts[group]), _read_group(file, places[group][1], name, path)

    @cached_property
    def _layout(self) -> tuple[NDArray[np.int64], list[tuple[Path, int]]]:
        """First row of each row group, and the file and number under which it lies."""
        counts, places = [], []
        for path in self.paths:
            metadata = _open(path).metadata
            for number in range(metadata.num_row_groups):
                counts.append(metadata.row_group(number).num_rows)
                places.append((path, number))
        return np.cumsum([0, *counts[:-1]], dtype=np.int64), places


def open_dataset(root: Path | str) -> Dataset:
    """Open and check a LeRobot v3.0 data set.

    Raises:
        UserError: no data set, another version, a truncated file, a declared column that is
            missing, totals that do not match the files, an action that is not 7-D, a NaN or an
            infinity in state or action (with episode and frame).
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError("no such data set", where=str(root), fix="run the stage that writes it")
    where = str(root / "meta" / "info.json")
    info = files.read_json(where)
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if version != VERSION:
        fix = "convert it with lerobot's own script for v3.0"
        raise UserError(f"LeRobot version {version!r}, not {VERSION}", where=where, fix=fix)
    missing = [key for key in INFO_KEYS if key not in info]
    if missing:
        raise UserError(f"{', '.join(missing)} missing", where=where, fix=REWRITE)
    entries = dict(info["features"])
    features = {name: columns_of.from_json(name, entry, where) for name, entry in entries.items()}
    if ACTION in features and features[ACTION].shape != (ACTION_SIZE,):
        what = f"action has {features[ACTION].shape} entries, not {ACTION_SIZE}"
        raise UserError(what, where=where, fix="convert the actions to conventions.ACTION_NAMES")
    dataset = Dataset(root, info, _about(root), features)
    _check_files(dataset)
    for name in (STATE, ACTION):
        if name in features:
            _check_finite(dataset, name)
    return dataset


def require_finite(name: str, values: NDArray[Any], where: str) -> None:
    """Raise a `UserError` naming the first frame (row) of an episode with a NaN or infinity."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        what = f"{name}, frame {int(np.argmin(finite))}: not a finite number"
        raise UserError(what, where=where, fix="mend or leave out the episode")


def _check_files(dataset: Dataset) -> None:
    where, info = str(dataset.root), dataset.info
    frames = 0
    for path in dataset.paths:
        file = _open(path)
        frames += file.metadata.num_rows
        absent = [name for name in dataset.features if name not in file.schema_arrow.names]
        if absent:
            what = f"declared columns are missing: {', '.join(absent)}"
            raise UserError(what, where=str(path), fix=REWRITE)
    lengths = dataset.episodes["length"].to_numpy()
    starts = dataset.episodes["dataset_from_index"].to_numpy()
    found = {
        "total_frames": frames,
        "total_episodes": len(lengths),
        "total_tasks": len(dataset.tasks),
    }
    for key, count in found.items():
        if info[key] != count:
            what = f"{key} is {info[key]} in info.json, but the files have {count}"
            raise UserError(what, where=where, fix=REWRITE)
    if lengths.sum() != frames or (starts != np.cumsum(lengths) - lengths).any():
        raise UserError("episode table does not match the frames", where=where, fix=REWRITE)


def _check_finite(dataset: Dataset, name: str) -> None:
    values = dataset.column(name)
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if finite.all():
        return
    row = int(np.argmin(finite))
    starts = dataset.episodes["dataset_from_index"].to_numpy()
    position = int(np.searchsorted(starts, row, side="right")) - 1
    episode = int(dataset.episodes["episode_index"].iloc[position])
    what = f"episode {episode}, frame {row - int(starts[position])}: {name} is not finite"
    raise UserError(what, where=str(dataset.root), fix="mend or leave out the episode")


def _about(root: Path) -> About:
    path = root / "meta" / "dualvla.json"
    if not path.is_file():
        fix = "say in meta/dualvla.json which convention its actions follow"
        raise UserError("no such file", where=str(path), fix=fix)
    data = files.read_json(path)
    if not isinstance(data, dict) or data.get("schema") != 1:
        raise UserError("not of schema 1", where=str(path), fix=REWRITE)
    try:
        return About(
            name=str(data["name"]),
            source=str(data["source"]),
            convention=conventions.from_json(dict(data["convention"]), str(path)),
            assets=data["assets"],
            cameras=dict(data["cameras"]),
            extra=dict(data["extra"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"malformed: {error}", where=str(path), fix=REWRITE) from error


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise UserError("no such file", where=str(path), fix=REWRITE) from error
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _read(path: Path, columns: list[str] | None = None) -> Any:
    file = _open(path)
    try:
        return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _read_group(file: Any, number: int, name: str, path: Path) -> Any:
    try:
        return file.read_row_group(number, columns=[name]).column(name)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"damaged or no Parquet file: {line}", where=str(path), fix=REWRITE)


def _numbers(name: str, column: Any, feature: Feature, root: Path) -> NDArray[Any]:
    values = column.combine_chunks()
    if feature.shape != (1,):
        kind = values.type
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        if width is None and pa.types.is_list(kind):  # other writers use lists of free length
            sizes = set(np.diff(values.offsets.to_numpy()).tolist())
            width = sizes.pop() if len(sizes) == 1 else None
        if width != feature.shape[0]:
            what = f"{name} has rows of {width or 'unequal'} entries, {feature.shape[0]} declared"
            raise UserError(what, where=str(root), fix=REWRITE)
        nulls = values.null_count
        values = values.flatten()
    else:
        nulls = 0
    if nulls or values.null_count:
        raise UserError(f"{name} has empty entries", where=str(root), fix=REWRITE)
    array = values.to_numpy(zero_copy_only=False).astype(feature.dtype)
    return array if feature.shape == (1,) else array.reshape(-1, feature.shape[0])
