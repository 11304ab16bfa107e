"""Published versions: a set of files under one prefix, made whole by its manifest.

Objects go first, each with its SHA-256 for the server to check; the manifest goes last and only if
there is none. So a reader who sees a manifest sees all of a version, a killed upload is no version
and is gone on with, and publishing the same content again uploads nothing. Sums are verified by
reading back, because a multipart object's own checksum is one of parts: it costs the traffic once a
version.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dualvla import files, redaction
from dualvla.errors import UserError
from dualvla.store import client, transfers
from dualvla.store.client import Place

MANIFEST = "manifest.json"
SCHEMA = 1
NONE_SUCH = {"404", "NoSuchKey"}
# What a conditional write answers to all but one: another's came first.
LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


@dataclass(frozen=True)
class Version:
    """A published version."""

    prefix: str
    files: int
    bytes: int
    new: bool  # False: it was there already


@dataclass(frozen=True)
class Listed:
    """A version as a listing shows it."""

    name: str  # the prefix's last part
    manifest: Mapping[str, Any]
    published: datetime


def publish(where: Place, prefix: str, contents: Mapping[str, Path], about: Any) -> Version:
    """Upload files as version `prefix` and verify them.

    Args:
        where: the bucket.
        prefix: such as `retrain/0123456789abcdef`, derived from the content.
        contents: names under the prefix and the files or folders they are read from.
        about: plain data stored in the manifest: profile, commit, summary.

    Raises:
        UserError: a file is missing, has the manifest's name or holds a secret; an object read
            back differs from what was sent.
    """
    s3 = client.connect(where)
    found = read_manifest(where, prefix)
    if found is not None:
        return published(prefix, found)
    chosen = _expand(contents)
    if MANIFEST in chosen:
        raise UserError(f"{MANIFEST} is the manifest's own name", where=str(chosen[MANIFEST]))
    redaction.require_clean(chosen.values())
    begun = _keys(s3, where, prefix)

    def send(name: str) -> dict[str, Any]:
        path, key = chosen[name], f"{prefix}/{name}"
        entry: dict[str, Any] = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
        if key not in begun or not transfers.is_there(s3, where, key, **entry):
            transfers.upload(s3, where, key, path, entry["sha256"])
        return entry

    with ThreadPoolExecutor(transfers.THREADS) as pool:
        objects = dict(zip(sorted(chosen), pool.map(send, sorted(chosen)), strict=True))
    manifest = {"schema": SCHEMA, "version": prefix, "about": about, "files": objects}
    verify(where, prefix, manifest)
    if put_json(s3, where, f"{prefix}/{MANIFEST}", manifest, IfNoneMatch="*"):
        return published(prefix, manifest, new=True)
    # Another process was first. Files with times in them may have been written over: then say so.
    first = require(where, prefix)
    verify(where, prefix, first)
    return published(prefix, first)


def read_manifest(where: Place, prefix: str) -> Mapping[str, Any] | None:
    """The manifest of a version, None if there is no such version."""
    found = get_json(client.connect(where), where, f"{prefix}/{MANIFEST}")
    return None if found is None else found[0]


def require(where: Place, prefix: str) -> Mapping[str, Any]:
    """The manifest of a version; a `UserError` if there is no such version."""
    manifest = read_manifest(where, prefix)
    if manifest is None:
        raise UserError("no such version", where=f"{where.url}/{prefix}", fix="publish it")
    return manifest


def listing(where: Place, prefix: str) -> list[Listed]:
    """Versions right below a prefix, oldest first.

    A version's files may be called `manifest.json` too: only `PREFIX/NAME/manifest.json` counts.
    """
    s3 = client.connect(where)
    found = []
    for name in folders(s3, where, prefix):
        answer = get_json(s3, where, f"{prefix}/{name}/{MANIFEST}")
        if answer is not None:
            found.append(Listed(name, answer[0], answer[1]["LastModified"]))
    return sorted(found, key=lambda one: (one.published, one.name))


def folders(s3: Any, where: Place, prefix: str) -> list[str]:
    """Names of what lies like a folder right below a prefix."""
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=where.bucket, Prefix=f"{prefix}/", Delimiter="/"
    )
    found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
    return sorted(PurePosixPath(one).name for one in found)


def verify(where: Place, prefix: str, manifest: Mapping[str, Any] | None = None) -> int:
    """Read a version's objects back and compare SHA-256; return how many there are.

    Raises:
        UserError: no such version, or the first object that differs or is missing.
    """
    manifest = manifest or require(where, prefix)
    s3, expected = client.connect(where), manifest["files"]

    def check(name: str) -> None:
        key = f"{prefix}/{name}"
        with _there(where, key):
            found = transfers.sum_of(s3, where.bucket, key)
        if found != expected[name]["sha256"]:
            raise _differs(where, key)

    with ThreadPoolExecutor(transfers.THREADS) as pool:
        list(pool.map(check, expected))
    return len(expected)


def read(where: Place, prefix: str, manifest: Mapping[str, Any], name: str) -> bytes:
    """One small file of a version, compared with its sum.

    Raises:
        UserError: the version has no such file, or it differs from what was published.
    """
    key = f"{prefix}/{name}"
    if name not in manifest["files"]:
        raise UserError("the version has no such file", where=f"{where.url}/{key}")
    content = bytearray()
    with _there(where, key):
        transfers.read(client.connect(where), where.bucket, key, content.extend)
    if hashlib.sha256(content).hexdigest() != manifest["files"][name]["sha256"]:
        raise _differs(where, key)
    return bytes(content)


def pull(where: Place, prefix: str, out: Path) -> tuple[int, int]:
    """Download a version into a folder; return its files and the bytes that were read.

    Everything is written beside the folder and compared with the manifest's sums before it takes
    the folder's name. A stopped pull goes on with what it had.

    Args:
        where: the bucket.
        prefix: of the version.
        out: folder made; may be there if it holds the same version.

    Raises:
        UserError: no such version, something else lies at `out`, another process pulls to it, or
            an object differs from what was published.
    """
    manifest = require(where, prefix)
    for name in manifest["files"]:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"a file's name leaves the folder: {name}", where=f"{where.url}/{prefix}"
            )
    if out.exists():
        _require_same(out, manifest)
        return len(manifest["files"]), 0
    beside = out.with_name(f".{out.name}.pull")
    beside.mkdir(parents=True, exist_ok=True)
    with _alone(beside), files.named(out):
        s3, count = client.connect(where), 0
        for name, entry in manifest["files"].items():
            with _there(where, f"{prefix}/{name}"):
                count += transfers.download(s3, where, f"{prefix}/{name}", beside / name, entry)
        files.write_json(beside / MANIFEST, manifest)
        wanted = {MANIFEST, *manifest["files"]}
        for path in beside.rglob("*"):  # of another version, pulled half to the same place
            if path.is_file() and path.relative_to(beside).as_posix() not in wanted:
                path.unlink()
        os.rename(beside, out)
    return len(manifest["files"]), count


def put_json(s3: Any, where: Place, key: str, data: Any, **condition: str) -> bool:
    """Write JSON as an object, without secrets; False if a condition does not hold."""
    from botocore.exceptions import ClientError

    body = json.dumps(redaction.redacted(data), indent=2, sort_keys=True).encode()
    try:
        s3.put_object(
            Bucket=where.bucket,
            Key=key,
            Body=body,
            ContentType="application/json",
            **condition,
            **where.options,
        )
    except ClientError as error:
        if not condition or error.response["Error"]["Code"] not in LOST | NONE_SUCH:
            raise
        # A request may be repeated whose first answer was lost: then what is there is ours.
        found = get_json(s3, where, key)
        return found is not None and found[0] == json.loads(body)
    return True


def get_json(s3: Any, where: Place, key: str) -> tuple[Any, Mapping[str, Any]] | None:
    """An object's JSON and the server's answer about it; None if there is no such object."""
    from botocore.exceptions import ClientError

    content = bytearray()
    try:
        answer = transfers.read(s3, where.bucket, key, content.extend)
    except ClientError as error:
        if error.response["Error"]["Code"] in NONE_SUCH:
            return None
        raise
    return json.loads(content), answer


def _keys(s3: Any, where: Place, prefix: str) -> set[str]:
    """What an earlier upload that was stopped left under a prefix."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=where.bucket, Prefix=f"{prefix}/")
    return {one["Key"] for page in pages for one in page.get("Contents", [])}


def _expand(contents: Mapping[str, Path]) -> dict[str, Path]:
    found = {}
    for name, path in contents.items():
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            found.update({f"{name}/{file.relative_to(path).as_posix()}": file for file in inside})
        elif path.is_file():
            found[name] = path
        else:
            raise UserError("no such file", where=str(path), fix="run the stage that writes it")
    return found


def published(prefix: str, manifest: Mapping[str, Any], *, new: bool = False) -> Version:
    """What a manifest says of its version."""
    sizes = [entry["bytes"] for entry in manifest["files"].values()]
    return Version(prefix, len(sizes), sum(sizes), new)


@contextlib.contextmanager
def _there(where: Place, key: str) -> Iterator[None]:
    """Turn a missing object into a `UserError`."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in NONE_SUCH:
            raise
        raise UserError("object is missing", where=f"{where.url}/{key}") from error


def _differs(where: Place, key: str) -> UserError:
    return UserError("object differs from what was published", where=f"{where.url}/{key}")


def _require_same(out: Path, manifest: Mapping[str, Any]) -> None:
    for name, entry in manifest["files"].items():
        path = out / name
        if not path.is_file() or files.sha256(path) != entry["sha256"]:
            raise UserError(
                "it is there and is not this version", where=str(out), fix="choose another folder"
            )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError("another process pulls to it", where=str(folder), fix="wait") from error
    finally:
        os.close(handle)
