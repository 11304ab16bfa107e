"""Writer of LeRobot v3.0 data sets, one episode at a time.

An episode is checked when it is added, so that a wrong shape or a NaN is reported with the episode
that made it and not by whoever trains on it. The folder is written beside its place and renamed,
and holds no times: the same episodes give the same bytes.
"""

import io
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dualvla import files
from dualvla.data import features as columns_of
from dualvla.data import statistics
from dualvla.data.features import EVENTS, PERSISTENT, Feature
from dualvla.data.reading import DATA_PATH, EPISODES_PATH, VERSION, About, Dataset, require_finite
from dualvla.errors import UserError

FILES_PER_CHUNK = 1000
FILE_MEGABYTES = 100
EPISODES_BUFFERED = 256  # rows of the episode table: hundreds of statistics each
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

LanguageRow = dict[
    str, Any
]  # role, content, style; timestamp, camera and tool_calls where they apply


class Writer:
    """Writes one data set, episode by episode; nothing is at `root` before `finalize`.

    As a context manager it finalizes on success and leaves nothing behind on an error.
    """

    def __init__(
        self,
        root: Path | str,
        fps: int,
        robot_type: str,
        features: Mapping[str, Feature],
        about: About,
        *,
        file_megabytes: float = FILE_MEGABYTES,
    ) -> None:
        """Start a data set.

        Args:
            root: folder of the data set; replaced on success.
            fps: frames a second, a whole number above 0.
            robot_type: as in info.json, for example widowx.
            features: columns besides LeRobot's five default ones.
            about: written to meta/dualvla.json.
            file_megabytes: a data file is closed before it grows past this.

        Raises:
            UserError: a frame rate that is no whole number above 0.
        """
        self.root = Path(root)
        if fps != int(fps) or fps <= 0:
            raise UserError(f"{fps} frames a second", where=str(root), fix="a whole number above 0")
        self.fps, self.robot_type, self.about = int(fps), robot_type, about
        self.features = dict(features) | columns_of.DEFAULTS
        self._schema = columns_of.schema(self.features)
        self._limit = file_megabytes * 2**20
        self._megabytes = file_megabytes
        self._beside = self.root.with_name(f".{self.root.name}.{os.getpid()}.part")
        shutil.rmtree(self._beside, ignore_errors=True)
        self._beside.mkdir(parents=True)
        self._tasks: dict[str, int] = {}
        self._episodes = 0
        self._rows: list[dict[str, Any]] = []  # of the episode table, not yet written
        self._table: Any = None
        self._histograms: dict[str, tuple[statistics.Histogram, int]] = {}
        self._frames = 0
        self._file, self._size = -1, 0
        self._writer: Any = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finalize()
        else:
            self.abort()

    def add(
        self,
        columns: Mapping[str, NDArray[Any]],
        images: Mapping[str, Sequence[bytes]],
        task: str,
        *,
        persistent: Sequence[LanguageRow] | None = None,
        events: Sequence[Sequence[LanguageRow]] | None = None,
    ) -> int:
        """Append one episode and return its index.

        Args:
            columns: feature -> (T, *shape), T frames each.
            images: image feature -> T encoded JPEG or PNG pictures.
            task: the instruction; an empty string is kept and means that none is known.
            persistent: language rows of the whole episode, if the column is declared.
            events: language rows of each of the T frames, if the column is declared.

        Raises:
            UserError: a missing or unknown column, a wrong shape, NaN or infinity, a picture that
                is neither JPEG nor PNG; it names episode and frame.
        """
        episode = self._episodes
        where = f"{self.root}, episode {episode}"
        given = {*columns, *images}
        wanted = {n for n in self.features if n not in columns_of.DEFAULTS | columns_of.LANGUAGE}
        if given != wanted:
            odd = ", ".join(sorted(given ^ wanted))
            raise UserError(
                f"columns do not match the features: {odd}", where=where, fix="mend them"
            )
        length = len(next(iter(columns.values()))) if columns else 0
        if length == 0:
            raise UserError("an episode without frames", where=where, fix="leave it out")
        arrays: dict[str, NDArray[Any]] = {}
        for name, values in columns.items():
            arrays[name] = _checked(name, np.asarray(values), self.features[name], length, where)
        for name, pictures in images.items():
            _check_pictures(name, pictures, length, where)
        arrays |= self._defaults(episode, length, task)
        language = _language(self.features, persistent, events, length, where)
        content: dict[str, Any] = {**arrays, **images, **language}
        columns_made = [_arrow(field, content[field.name]) for field in self._schema]
        table = pa.table(columns_made, schema=self._schema)
        stats = {
            name: statistics.summarise(value)
            for name, value in arrays.items()
            if self.features[name].dtype in columns_of.NUMBERS
        }
        for name, pictures in images.items():
            stats[name] = self._count_levels(name, [pictures[i] for i in statistics.sample(length)])
        self._append(table, episode, task, length, stats)
        return episode

    def finalize(self) -> None:
        """Write the metadata and rename the folder into place.

        Raises:
            UserError: no episode was added.
        """
        if not self._episodes:
            self.abort()
            raise UserError("no episodes", where=str(self.root), fix="add at least one")
        self._writer.close()
        self._writer = None
        meta = self._beside / "meta"
        meta.mkdir(exist_ok=True)
        files.write_json(meta / "info.json", self._info())
        files.write_json(meta / "dualvla.json", self.about.to_json())
        _write_tasks(meta / "tasks.parquet", list(self._tasks))
        self._flush()
        self._table.close()
        self._table = None
        files.write_json(meta / "stats.json", self._stats())
        shutil.rmtree(self.root, ignore_errors=True)
        os.replace(self._beside, self.root)

    def abort(self) -> None:
        """Drop what was written."""
        for writer in (self._writer, self._table):
            if writer is not None:
                writer.close()
        self._writer = self._table = None
        shutil.rmtree(self._beside, ignore_errors=True)

    def _defaults(self, episode: int, length: int, task: str) -> dict[str, NDArray[Any]]:
        frame = np.arange(length, dtype=np.int64)
        number = self._tasks.setdefault(task, len(self._tasks))
        return {
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, episode, dtype=np.int64),
            "index": self._frames + frame,
            "task_index": np.full(length, number, dtype=np.int64),
        }

    def _count_levels(self, name: str, pictures: list[bytes]) -> statistics.Stats:
        counts = statistics.histogram(pictures)
        old, seen = self._histograms.get(name, (np.zeros_like(counts), 0))
        self._histograms[name] = (old + counts, seen + len(pictures))
        return statistics.summarise_pictures(counts, len(pictures))

    def _append(
        self, table: Any, episode: int, task: str, length: int, stats: dict[str, statistics.Stats]
    ) -> None:
        if self._writer is None or (self._size and self._size + table.nbytes > self._limit):
            if self._writer is not None:
                self._writer.close()
            self._file, self._size = self._file + 1, 0
            chunk, number = divmod(self._file, FILES_PER_CHUNK)
            path = self._beside / DATA_PATH.format(chunk_index=chunk, file_index=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Pictures are compressed already, and no two are equal: a dictionary of them is waste.
            pictures = {f"{n}.bytes" for n, f in self.features.items() if f.dtype == "image"}
            leaves = _leaves(self._schema)
            self._writer = pq.ParquetWriter(
                path,
                self._schema,
                compression={leaf: "NONE" if leaf in pictures else "SNAPPY" for leaf in leaves},
                write_page_checksum=True,
                use_dictionary=[leaf for leaf in leaves if leaf not in pictures],
            )
        self._writer.write_table(table, row_group_size=max(length, 1))
        self._size += table.nbytes
        chunk, number = divmod(self._file, FILES_PER_CHUNK)
        row: dict[str, Any] = {
            "episode_index": episode,
            "tasks": [task],
            "length": length,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + length,
            "data/chunk_index": chunk,
            "data/file_index": number,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for name, values in stats.items():
            row |= {f"stats/{name}/{key}": value for key, value in values.items()}
        self._rows.append(row)
        self._episodes += 1
        self._frames += length
        if len(self._rows) == EPISODES_BUFFERED:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows)
        if self._table is None:
            path = self._beside / EPISODES_PATH.format(chunk_index=0, file_index=0)
            path.parent.mkdir(parents=True)
            self._table = pq.ParquetWriter(path, table.schema)
        self._table.write_table(table)
        self._rows.clear()

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": self.robot_type,
            "total_episodes": self._episodes,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": math.ceil(self._megabytes),
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{self._episodes}"},
            "data_path": DATA_PATH,
            "video_path": None,
            "features": {name: feature.to_json() for name, feature in self.features.items()},
        }

    def _stats(self) -> dict[str, statistics.Stats]:
        # The finished files are read back column by column: vectors only, pictures stay encoded.
        written = Dataset(self._beside, self._info(), self.about, self.features)
        stats = {
            name: statistics.summarise(written.column(name))
            for name, feature in self.features.items()
            if feature.dtype in columns_of.NUMBERS
        }
        for name, (counts, pictures) in self._histograms.items():
            stats[name] = statistics.summarise_pictures(counts, pictures)
        return stats


def _checked(
    name: str, values: NDArray[Any], feature: Feature, length: int, where: str
) -> NDArray[Any]:
    shape = (length,) if feature.shape == (1,) else (length, *feature.shape)
    if feature.shape == (1,) and values.shape == (length, 1):
        values = values[:, 0]
    if values.shape != shape:
        what = f"{name} has shape {values.shape}, not {shape}"
        raise UserError(what, where=where, fix="mend the episode")
    if feature.dtype not in columns_of.NUMBERS:
        return values
    require_finite(name, values, where)
    return values.astype(feature.dtype)


def _check_pictures(name: str, pictures: Sequence[bytes], length: int, where: str) -> None:
    if len(pictures) != length:
        what = f"{name} has {len(pictures)} pictures for {length} frames"
        raise UserError(what, where=where, fix="one picture a frame")
    for frame, picture in enumerate(pictures):
        if not bytes(picture[:8]).startswith(MAGIC):
            what = f"{name}, frame {frame}: neither JPEG nor PNG"
            raise UserError(what, where=where, fix="encode the picture")


def _language(
    features: Mapping[str, Feature],
    persistent: Sequence[LanguageRow] | None,
    events: Sequence[Sequence[LanguageRow]] | None,
    length: int,
    where: str,
) -> dict[str, list[list[LanguageRow]]]:
    given = {PERSISTENT: persistent, EVENTS: events}
    for name, rows in given.items():
        if (rows is None) == (name in features):
            what = f"{name} is {'declared but missing' if rows is None else 'not declared'}"
            raise UserError(what, where=where, fix="declare it and give it, or neither")
    columns: dict[str, list[list[LanguageRow]]] = {}
    if persistent is not None:
        columns[PERSISTENT] = [list(persistent)] * length  # broadcast, as LeRobot stores it
    if events is not None:
        if len(events) != length:
            what = f"{EVENTS} has {len(events)} entries for {length} frames"
            raise UserError(what, where=where, fix="one list a frame")
        columns[EVENTS] = [list(rows) for rows in events]
    return columns


def _arrow(field: Any, values: Any) -> Any:
    """One column of an episode as an Arrow array of the schema's type."""
    if pa.types.is_struct(field.type):
        data = pa.array([bytes(p) for p in values], pa.binary())
        paths = pa.array([f"frame-{i:06d}{_suffix(p)}" for i, p in enumerate(values)])
        return pa.StructArray.from_arrays([data, paths], fields=list(field.type))
    if pa.types.is_list(field.type):
        # Arrow makes JSON columns from text only.
        return pa.array(values, columns_of.language_type(field.name, pa.string())).cast(field.type)
    if not pa.types.is_fixed_size_list(field.type):
        return pa.array(values, field.type)
    flat = pa.array(np.ascontiguousarray(values).ravel(), field.type.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=field.type)


def _suffix(picture: bytes) -> str:
    return ".jpg" if bytes(picture[:3]) == MAGIC[0] else ".png"


def _leaves(schema: Any) -> list[str]:
    """Dotted paths of the columns Parquet makes of an Arrow schema."""
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, schema).close()
    parquet = pq.read_metadata(buffer).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def _write_tasks(path: Path, tasks: list[str]) -> None:
    """The frame LeRobot expects: the task is the index, its number the column."""
    import pandas as pd

    index = pd.Index(tasks, name="task", dtype=object)
    pd.DataFrame({"task_index": np.arange(len(tasks))}, index=index).to_parquet(path)
