"""Published versions: a set of files under one prefix, made whole by its manifest.

Objects go first, each with its SHA-256 for the server to check; the manifest goes last and only if
there is none. So a reader who sees a manifest sees all of a version, a killed upload is no version,
and publishing the same content again uploads nothing. Sums are verified by reading back, because a
multipart object's own checksum is one of parts: it costs the traffic once a version.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvla import files
from dualvla.errors import UserError
from dualvla.store import client
from dualvla.store.client import Place

MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True)
class Version:
    """A published version."""

    prefix: str
    files: int
    bytes: int
    new: bool  # False: it was there already


def publish(where: Place, prefix: str, contents: Mapping[str, Path], about: Any) -> Version:
    """Upload files as version `prefix` and verify them.

    Args:
        where: the bucket.
        prefix: such as `retrain/0123456789abcdef`, derived from the content.
        contents: names under the prefix and the files or folders they are read from.
        about: plain data stored in the manifest: profile, commit, summary.

    Raises:
        UserError: a file is missing; an object read back differs from what was sent.
    """
    s3 = client.connect(where)
    found = read_manifest(where, prefix)
    if found is not None:
        return _version(prefix, found, new=False)
    objects = {}
    for name, path in sorted(_expand(contents).items()):
        sum_, size = files.sha256(path), path.stat().st_size
        objects[name] = {"sha256": sum_, "bytes": size}
        s3.upload_file(
            str(path),
            where.bucket,
            f"{prefix}/{name}",
            ExtraArgs={"ChecksumAlgorithm": "SHA256", "ContentType": _content_type(name)},
        )
    manifest = {"schema": SCHEMA, "version": prefix, "about": about, "files": objects}
    verify(where, prefix, manifest)
    body = json.dumps(manifest, indent=2, sort_keys=True).encode()
    _put_once(s3, where.bucket, f"{prefix}/{MANIFEST}", body)
    return _version(prefix, manifest, new=True)


def read_manifest(where: Place, prefix: str) -> Mapping[str, Any] | None:
    """The manifest of a version, None if there is no such version."""
    from botocore.exceptions import ClientError

    s3 = client.connect(where)
    try:
        body = s3.get_object(Bucket=where.bucket, Key=f"{prefix}/{MANIFEST}")["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return None
        raise
    found: Mapping[str, Any] = json.loads(body)
    return found


def verify(where: Place, prefix: str, manifest: Mapping[str, Any] | None = None) -> int:
    """Read a version's objects back and compare SHA-256; return how many there are.

    Raises:
        UserError: no such version, or the first object that differs or is missing.
    """
    from botocore.exceptions import ClientError

    manifest = manifest or read_manifest(where, prefix)
    if manifest is None:
        raise UserError("no such version", where=f"{where.url}/{prefix}", fix="publish it")
    s3 = client.connect(where)
    for name, expected in manifest["files"].items():
        key = f"{prefix}/{name}"
        try:
            body = s3.get_object(Bucket=where.bucket, Key=key)["Body"]
        except ClientError as error:
            raise UserError("object is missing", where=f"{where.url}/{key}") from error
        digest = hashlib.sha256()
        for chunk in body.iter_chunks(2**20):
            digest.update(chunk)
        if digest.hexdigest() != expected["sha256"]:
            raise UserError("object differs from what was published", where=f"{where.url}/{key}")
    return len(manifest["files"])


def _put_once(s3: Any, bucket: str, key: str, body: bytes) -> None:
    from botocore.exceptions import ClientError

    try:
        s3.put_object(
            Bucket=bucket, Key=key, Body=body, IfNoneMatch="*", ContentType="application/json"
        )
    except ClientError as error:
        # Another process published the same content first: its manifest says the same.
        if error.response["Error"]["Code"] != "PreconditionFailed":
            raise


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


def _version(prefix: str, manifest: Mapping[str, Any], *, new: bool) -> Version:
    sizes = [entry["bytes"] for entry in manifest["files"].values()]
    return Version(prefix, len(sizes), sum(sizes), new)


def _content_type(name: str) -> str:
    import mimetypes

    return mimetypes.guess_type(name)[0] or "application/octet-stream"
