"""Import of BridgeData V2 in RLDS form (TFRecord) as a LeRobot data set.

What the files say of themselves is checked against features.json, because the builders'
descriptions are wrong in places (they call the state joint angles; it is a pose). Facts of the real
data that the import relies on, and that a test measures again:

* state is the gripper's pose in the base frame and an opening in about [0, 1] (up to 1.007);
* action is the pose delta *commanded* at a step (slope of the measured delta 0.7 to 0.9) and an
  absolute gripper in [0, 1], 1 open, with some values in between;
* an instruction may be empty: the episode is kept, its task is the empty string and is counted.

`relabel` replaces the commanded delta by the measured one, which is what the convention declares
and what models trained on this data use; the last step, which has no successor, is left out then.
Pictures stay the encoded bytes they are.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualvla import conventions, files, progress
from dualvla.data import tfrecord
from dualvla.data.lerobot import ACTION, CAMERA, STATE, About, Writer, robot_features
from dualvla.data.tfrecord import Values
from dualvla.errors import UserError

FPS = 5
ROBOT = "widowx"
CAMERAS = ("image_0", "image_primary", "image")  # over-the-shoulder view, by data set version
CLOSED, OPEN = 0.05, 0.95  # gripper commands between these are on their way to the next decided one
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
DOWNLOAD = "download the data set again"


@dataclass(frozen=True)
class Episode:
    """One episode as stored: T steps."""

    states: NDArray[np.float32]  # (T, 7) pose and opening
    actions: NDArray[np.float32]  # (T, 7) commanded delta, gripper in [0, 1]
    images: list[bytes]  # T encoded pictures
    instruction: str  # empty if none is known


def import_rlds(
    path: Path | str, out: Path | str, split: str = "train", *, relabel: bool = True
) -> None:
    """Write the episodes of an RLDS split to `out` as a LeRobot v3.0 data set.

    Args:
        path: the data set's folder, or one that holds it.
        out: folder of the new data set (5 Hz, conventions.WIDOWX_BRIDGE).
        split: train or val.
        relabel: actions become measured pose deltas; otherwise the commanded ones are kept.

    Raises:
        UserError: no or several data sets, a missing shard, a damaged file, another layout than
            7-D state, 7-D action and JPEG or PNG pictures; it names file and record.
    """
    folder = _find(Path(path))
    name = str(files.read_json(folder / "dataset_info.json").get("name", folder.parent.name))
    source = episodes(folder, split)
    first = next(source, None)
    if first is None:
        raise UserError(f"no episodes in split {split}", where=str(folder), fix=DOWNLOAD)
    height, width = _size(first.images[0], str(folder))
    empty = short = 0
    progress.log(f"import: {folder}, split {split}")
    extra: dict[str, Any] = {"split": split, "version": folder.name, "relabelled": relabel}
    about = About(name, "rlds", conventions.BY_SOURCE["rlds"])
    with Writer(out, FPS, ROBOT, robot_features(height, width), about) as writer:
        for episode in _chain(first, source):
            last = len(episode.states) - 1 if relabel else len(episode.states)
            if last < 1:
                short += 1
                continue
            empty += not episode.instruction
            columns = {
                STATE: states(episode.states)[:last],
                ACTION: actions(episode.states, episode.actions, relabel=relabel),
            }
            writer.add(columns, {CAMERA: episode.images[:last]}, episode.instruction)
        extra |= {"episodes_without_instruction": empty, "episodes_too_short": short}
        writer.about = About(name, "rlds", about.convention, extra=extra)
    if empty or short:
        progress.log(f"import: {empty} episodes without instruction, {short} too short, left out")


def episodes(path: Path | str, split: str = "train") -> Iterator[Episode]:
    """Yield the episodes of a split as stored, shard by shard.

    Raises:
        UserError: as `import_rlds`.
    """
    folder = _find(Path(path))
    camera = _camera(folder)
    for shard, length in _shards(folder, split):
        count = 0
        for number, record in enumerate(tfrecord.records(shard)):
            where = f"{shard}, record {number}"
            yield _episode(tfrecord.example(record, where), camera, where)
            count += 1
        if length is not None and count != length:
            what = f"{count} records, {length} declared in dataset_info.json"
            raise UserError(what, where=str(shard), fix=DOWNLOAD)


def states(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """States (T, 7) with the opening brought into [0, 1]; the encoder overshoots by 1 %."""
    values = values.copy()
    values[:, 6] = values[:, 6].clip(0.0, 1.0)
    return values


def actions(
    states: NDArray[np.float32], stored: NDArray[np.float32], *, relabel: bool = True
) -> NDArray[np.float32]:
    """Actions in conventions.WIDOWX_BRIDGE: (T - 1, 7) measured deltas, or (T, 7) as commanded.

    Angles are wrapped to [-pi, pi); the gripper is +1 open, -1 closed and nothing between.
    """
    gripper = decided(stored[:, 6])
    if not relabel:
        return np.concatenate([stored[:, :6], gripper[:, None]], axis=1).astype(np.float32)
    moved = np.diff(states[:, :6].astype(np.float64), axis=0)
    moved[:, 3:] = (moved[:, 3:] + np.pi) % (2 * np.pi) - np.pi
    return np.concatenate([moved, gripper[:-1, None]], axis=1).astype(np.float32)


def decided(gripper: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gripper commands (T,) in [0, 1] as +1 open or -1 closed.

    A value in between belongs to a motion under way: it takes the next decided value, and at the
    end of an episode, where none follows, the nearer one.
    """
    result = np.empty(len(gripper), dtype=np.float32)
    coming: float | None = None
    for frame in range(len(gripper) - 1, -1, -1):
        value = float(gripper[frame])
        if value >= OPEN or value <= CLOSED:
            coming = 1.0 if value >= OPEN else -1.0
        nearer = 1.0 if value > 0.5 else -1.0
        result[frame] = nearer if coming is None else coming
    return result


def _episode(features: dict[str, Values], camera: str, where: str) -> Episode:
    def values(key: str) -> Any:
        if key not in features:
            raise UserError(f"no feature {key}", where=where, fix="see features.json")
        return features[key]

    images = [bytes(picture) for picture in values(f"steps/observation/{camera}")]
    shape = (len(images), 7)
    rows = {}
    for key in ("observation/state", "action"):
        row = np.asarray(values(f"steps/{key}"))
        if row.dtype.kind != "f" or row.size != shape[0] * shape[1]:
            what = f"{key} has {row.size} numbers for {shape[0]} steps, not 7 a step"
            raise UserError(what, where=where, fix=DOWNLOAD)
        rows[key] = row.reshape(shape)
    texts = [bytes(text) for text in values("steps/language_instruction")]
    instruction = texts[0].decode("utf-8", errors="replace").strip() if texts else ""
    return Episode(rows["observation/state"], rows["action"], images, instruction)


def _find(path: Path) -> Path:
    if not path.is_dir():
        raise UserError("no such folder", where=str(path), fix="see demonstrations.rlds_path")
    if (path / "features.json").is_file():
        return path
    found = sorted(file.parent for file in path.rglob("features.json"))
    if len(found) != 1:
        what = f"{len(found)} RLDS data sets (features.json) below it"
        raise UserError(what, where=str(path), fix="give the folder of one of them")
    return found[0]


def _camera(folder: Path) -> str:
    """The camera's name, after checking layout and encodings in features.json."""
    where = str(folder / "features.json")
    step = files.read_json(where)
    try:
        step = step["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        step = step["featuresDict"]["features"]
        seen = step["observation"]["featuresDict"]["features"]
        shapes = {
            "action": step["action"]["tensor"]["shape"]["dimensions"],
            "state": seen["state"]["tensor"]["shape"]["dimensions"],
        }
        cameras = {name: seen[name]["image"]["encodingFormat"] for name in CAMERAS if name in seen}
    except (KeyError, TypeError) as error:
        raise UserError(f"not Bridge's layout: no {error}", where=where, fix=DOWNLOAD) from error
    for name, shape in shapes.items():
        if [int(n) for n in shape] != [7]:
            what = f"{name} has shape {shape}, not [7]"
            raise UserError(what, where=where, fix="only 7-D Bridge data can be imported")
    for name, encoding in cameras.items():
        if encoding in ("jpeg", "png"):
            return name
    what = f"no JPEG or PNG picture among {', '.join(CAMERAS)}"
    raise UserError(what, where=where, fix="only Bridge data can be imported")


def _shards(folder: Path, split: str) -> list[tuple[Path, int | None]]:
    """Files of a split in order, each with the number of records it should have."""
    paths = sorted(folder.glob(f"*-{split}.tfrecord-*"))
    numbers = [match for path in paths if (match := SHARD.search(path.name))]
    total = int(numbers[0][2]) if numbers else 0
    if not numbers or [int(match[1]) for match in numbers] != list(range(total)):
        what = f"{len(numbers)} of {total} files of split {split}"
        raise UserError(what, where=str(folder), fix=DOWNLOAD)
    declared: dict[str, list[str]] = {
        entry["name"]: entry.get("shardLengths", [])
        for entry in files.read_json(folder / "dataset_info.json").get("splits", [])
    }
    lengths = [int(length) for length in declared.get(split, [])]
    if len(lengths) != len(paths):
        return [(path, None) for path in paths]
    return list(zip(paths, lengths, strict=True))


def _size(picture: bytes, where: str) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture)) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError) as error:
        raise UserError("a picture cannot be read", where=where, fix=DOWNLOAD) from error


def _chain(first: Episode, others: Iterator[Episode]) -> Iterator[Episode]:
    yield first
    yield from others
