"""Incoming shards as demonstrations: which ones, and how they become one data set.

A shard is a LeRobot data set that somebody offered, known by the SHA-256 of its files. The list of
those to train on is a small file of the workspace, so that DVC sees it change and a run can be
repeated from it; the data lies in S3 under the sums. Shards are merged in the order of their sums
and not of their arrival: the same set of shards gives the same bytes, whoever came first. The price
is that a new shard moves the episode numbers of others.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualvla import conventions, files, progress
from dualvla.data import lerobot
from dualvla.data.features import CAMERA, CONTROLLER, ENVIRONMENT, NUMBERS, simulation_features
from dualvla.data.lerobot import ACTION, About, Dataset, Writer
from dualvla.errors import UserError

SCHEMA = 1
NAME = "incoming"  # of the merged data set, and the source that it names
OPTIONAL = (CONTROLLER, ENVIRONMENT)  # kept where every shard has them


def manifest(shards: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The list of shards to train on: `sha256`, `episodes` and `frames` of each, by their sums."""
    keys = ("sha256", "episodes", "frames")
    rows = [{key: shard[key] for key in keys} for shard in shards]
    return {"schema": SCHEMA, "shards": sorted(rows, key=lambda row: str(row["sha256"]))}


def read(path: Path) -> list[str]:
    """Sums of the shards to train on.

    Raises:
        UserError: no such file, another schema, or no shards yet.
    """
    data = files.read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UserError(f"not of schema {SCHEMA}", where=str(path), fix="`dualvla retrain`")
    if not data["shards"]:
        fix = "offer some and run the flow `watch`; see docs/operations.md"
        raise UserError("no shards were ingested yet", where=str(path), fix=fix)
    return [str(row["sha256"]) for row in data["shards"]]


def merge(folders: Sequence[Path], out: Path, image_size: int) -> dict[str, int]:
    """Write all shards as one data set; an episode that another shard has too is written once.

    Args:
        folders: the shards, in order.
        out: folder written.
        image_size: width and height of their pictures, pixels.

    Returns:
        `shards`, `episodes`, `frames`, and `repeated` episodes that were left out.

    Raises:
        UserError: a shard is damaged or of another convention.
    """
    datasets = [lerobot.open_dataset(folder) for folder in folders]
    convention = conventions.BY_SOURCE[NAME]
    for dataset in datasets:
        conventions.require_same(dataset.convention, convention, where=str(dataset.root))
    features = simulation_features(image_size)
    for name in OPTIONAL:
        lacking = sum(not _has(dataset, name, features[name].shape) for dataset in datasets)
        if lacking:
            del features[name]
            progress.log(f"{name} is left out: {lacking} of {len(datasets)} shards lack it")
    numbers = [name for name, feature in features.items() if feature.dtype in NUMBERS]
    packs = {dataset.about.assets for dataset in datasets}
    around: dict[str, Any] = {}  # distractors by episode index
    seen: set[bytes] = set()
    count = repeated = frames = 0
    about = About(NAME, NAME, convention, packs.pop() if len(packs) == 1 else None)
    with Writer(out, int(convention.control_hz), "widowx", features, about) as writer:
        for dataset in progress.track(datasets, len(datasets), "shards"):
            columns = {name: dataset.column(name) for name in numbers}
            others = dataset.about.extra.get("distractors", {})
            for index, task in enumerate(dataset.episodes["task"]):
                rows = dataset.rows(index)
                part = {name: values[rows.start : rows.stop] for name, values in columns.items()}
                content = hashlib.sha256(part[ACTION].astype(np.float32).tobytes()).digest()
                if content in seen:
                    repeated += 1
                    continue
                seen.add(content)
                written = writer.add(part, {CAMERA: dataset.images(CAMERA, rows)}, str(task))
                if str(index) in others:
                    around[str(written)] = others[str(index)]
                count, frames = count + 1, frames + len(rows)
        extra = {"distractors": around} if around else {}
        writer.about = About(about.name, about.source, convention, about.assets, extra=extra)
    if repeated:
        progress.log(f"{repeated} episodes lie in several shards and were written once")
    return {"shards": len(datasets), "episodes": count, "frames": frames, "repeated": repeated}


def _has(dataset: Dataset, name: str, shape: tuple[int, ...]) -> bool:
    return name in dataset.features and dataset.features[name].shape == shape
