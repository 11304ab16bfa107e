"""Shards in the bucket: what is offered, what was ingested or refused, and the index of both.

    incoming/shards/NAME/...      offered: a LeRobot data set, its meta/info.json uploaded last
    incoming/ingested/SHA256/     a copy that passed the gate, published as a version
    incoming/index.json           what was seen, ingested and quarantined
    quarantine/NAME-SHA256/       report on a shard that did not pass

Whoever offers may change or remove a shard at any time; what was ingested is a copy under the sum
of its content, so that a run can be repeated. It costs the space twice until the offer is removed.
The index is one object that is moved by compare-and-swap: two watchers lose nothing. It holds no
times, which the bucket keeps anyway.
"""

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dualvla import files
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.store import client, outages, transfers, versions
from dualvla.store.client import Place
from dualvla.store.keys import CREDENTIALS

OFFERED = "incoming/shards"
INGESTED = "incoming/ingested"
INDEX = "incoming/index.json"
QUARANTINE = "quarantine"
LAST = "meta/info.json"  # of a shard; without it, it is not whole yet
SCHEMA = 1
LONGEST = 255  # bytes of a part of a file's name
DIGITS = 12  # of a sum, in the names of quarantined shards
TRIES = 64  # of writing the index against other watchers
CACHE = Path("incoming")  # in the cache that workspaces share
CONTENT = "shard"  # folder of an ingested shard's files

Index = dict[str, Any]


@dataclass(frozen=True)
class Offer:
    """A shard as the bucket lists it."""

    key: str  # prefix of its objects
    names: tuple[str, ...]  # of its files, below the prefix
    bytes: int
    listing: str  # SHA-256 of names, sizes and ETags: changes when an object does


def offers(where: Place, prefix: str = OFFERED) -> tuple[list[Offer], int]:
    """Whole shards below a prefix by name, and how many objects belong to none."""
    s3 = client.connect(where)
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=where.bucket, Prefix=f"{prefix.rstrip('/')}/"
    )
    listed = [one for page in pages for one in page.get("Contents", [])]
    listed = [one for one in listed if not one["Key"].endswith("/")]  # folders that consoles make
    whole = {
        one["Key"].removesuffix(f"/{LAST}") for one in listed if one["Key"].endswith(f"/{LAST}")
    }
    found: dict[str, list[Any]] = {}
    for one in listed:
        above = [str(folder) for folder in PurePosixPath(one["Key"]).parents]
        if owner := next((folder for folder in above if folder in whole), None):
            found.setdefault(owner, []).append(one)
    return (
        [_offer(key, found[key]) for key in sorted(found)],
        len(listed) - sum(map(len, found.values())),
    )


def _offer(key: str, objects: Iterable[Any]) -> Offer:
    rows = sorted((one["Key"][len(key) + 1 :], one["Size"], one["ETag"]) for one in objects)
    listing = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return Offer(key, tuple(name for name, _, _ in rows), sum(size for _, size, _ in rows), listing)


def bring(where: Place, offer: Offer, folder: Path) -> None:
    """Download an offered shard into a new folder.

    Raises:
        UserError: a name that would leave the folder, that no file can have, or that clashes with
            another; the shard's fault.
    """
    s3 = client.connect(where)
    for name in offer.names:
        place = PurePosixPath(name)
        if name != place.as_posix() or place.is_absolute() or ".." in place.parts:
            raise UserError(f"a file's name leaves the folder: {name!r}", where=offer.key)
        if "\0" in name or any(len(part.encode()) > LONGEST for part in place.parts):
            raise UserError(f"no file can have the name {name[:80]!r}", where=offer.key)
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as stream:
                transfers.read(s3, where.bucket, f"{offer.key}/{name}", stream.write)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"{name} is a file and a folder", where=offer.key) from error


def read_index(where: Place) -> Index:
    """What was seen, ingested and quarantined so far; see `_read` for its form."""
    return _read(where)[0]


def record(where: Place, change: Callable[[Index], None]) -> Index:
    """Change the index, whoever else does so at the same time; return it."""
    s3 = client.connect(where)
    for number in range(TRIES):
        index, tag = _read(where)
        change(index)
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        if versions.put_json(s3, where, INDEX, index, **condition):
            return index
        time.sleep(random.uniform(0, 0.05 * (number + 1)))
    what = f"{TRIES} writes lost against others"
    raise RuntimeError(f"{where.url}/{INDEX}: {what}")


def _read(where: Place) -> tuple[Index, str | None]:
    """The index and its ETag.

    `seen`: prefix -> listing and sha256; `ingested`: sha256 -> shard, episodes, frames;
    `quarantined`: sha256 -> shard, reasons, report.
    """
    found = versions.get_json(client.connect(where), where, INDEX)
    if found is None:
        return {"schema": SCHEMA, "seen": {}, "ingested": {}, "quarantined": {}}, None
    index, answer = found
    if index.get("schema") != SCHEMA:
        fix = "use the release that wrote it"
        raise UserError(f"not of schema {SCHEMA}", where=f"{where.url}/{INDEX}", fix=fix)
    return index, answer["ETag"]


def ingested(index: Index) -> list[dict[str, Any]]:
    """Ingested shards with their sums, for `data.incoming.manifest`."""
    return [{"sha256": sha256, **entry} for sha256, entry in index["ingested"].items()]


def keep(where: Place, sha256: str, folder: Path, about: Any) -> versions.Version:
    """Publish a shard's content under its sum; again: nothing is sent."""
    return versions.publish(where, f"{INGESTED}/{sha256}", {CONTENT: folder}, about)


def quarantine(where: Place, offer: Offer, sha256: str, report: Any, page: str) -> str:
    """Write the report on a shard; return its prefix."""
    name = offer.key.rpartition("/")[2]
    prefix = f"{QUARANTINE}/{name}-{sha256[:DIGITS]}"
    s3 = client.connect(where)
    s3.put_object(
        Bucket=where.bucket,
        Key=f"{prefix}/report.html",
        Body=page.encode(),
        ContentType="text/html; charset=utf-8",
        **where.options,
    )
    versions.put_json(s3, where, f"{prefix}/report.json", report)
    return prefix


def fetch(params: Params, sums: Sequence[str]) -> list[Path]:
    """Folders of ingested shards in the cache that workspaces share, downloaded where missing.

    Args:
        params: where the bucket is.
        sums: SHA-256 of each.

    Raises:
        UserError: S3 does not answer, a shard is not there, or differs from its sum.
    """
    cache = Path(os.environ.get("DUALVLA_CACHE", ".cache")).absolute() / CACHE
    missing = [sha256 for sha256 in sums if not (cache / sha256).is_dir()]
    if missing:
        where = client.place(params.store, _root())
        client.check(where)
        with outages.told(where):
            for sha256 in missing:
                versions.pull(where, f"{INGESTED}/{sha256}", cache / sha256)
    for sha256 in sums:
        if files.sha256(cache / sha256 / CONTENT) != sha256:
            shutil.rmtree(cache / sha256)
            fix = "it was damaged on this disk and is removed: run this again"
            raise UserError("differs from its sum", where=str(cache / sha256), fix=fix)
    return [cache / sha256 / CONTENT for sha256 in sums]


def _root() -> Path:
    """The folder with the local stack's keys: a profile's workspace lies below it."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / CREDENTIALS).is_file()), here)
