"""Bytes to S3 and back, so that a cut or killed transfer continues where it stopped.

What is already there is told by the server, not by a file kept here: a large file's finished parts
are listed and compared with the local ones, so a killed upload goes on from another process or
machine. Nothing is trusted unseen: each part and object is sent with its SHA-256 for the server to
check, and what is read is compared with the sum of the manifest.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dualvla.errors import UserError
from dualvla.store.client import Place

PART = 8 * 2**20  # bytes; the least that a resumed upload can repeat
MOST_PARTS = 10_000  # S3's limit
THREADS = 4
CHUNK = 2**20
ATTEMPTS = 8  # continuations of one object's stream
LONGEST_WAIT = 5.0  # seconds between two of them


def upload(s3: Any, where: Place, key: str, path: Path, sha256: str) -> int:
    """Send a file and return how many of its bytes were sent: fewer if parts of it were there.

    Args:
        s3: client.
        where: the bucket.
        key: of the object.
        path: the file.
        sha256: its sum, hexadecimal; kept with the object.
    """
    size = path.stat().st_size
    if size > PART:
        return _multipart(s3, where, key, path, sha256)
    data = path.read_bytes()
    s3.put_object(
        Bucket=where.bucket,
        Key=key,
        Body=data,
        ChecksumSHA256=_sum(data),
        **_about(where, key, sha256),
    )
    return size


def is_there(s3: Any, where: Place, key: str, sha256: str, bytes: int) -> bool:
    """Whether an object with this sum and size was uploaded here."""
    from botocore.exceptions import ClientError

    try:
        head = s3.head_object(Bucket=where.bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return False
        raise
    return (head["Metadata"].get("sha256"), head["ContentLength"]) == (sha256, bytes)


def read(
    s3: Any, bucket: str, key: str, take: Callable[[bytes], Any], start: int = 0
) -> Mapping[str, Any]:
    """Stream an object from byte `start` into `take`; a cut connection continues where it was.

    Returns:
        the server's answer: ETag, LastModified.

    Raises:
        ClientError: no such object, no access, or replaced after the connection was cut.
        BotoCoreError: cut again and again.
    """
    from botocore.exceptions import (
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    offset, attempt, wanted = start, 0, {}
    while True:
        if offset:
            wanted["Range"] = f"bytes={offset}-"
        answer: Mapping[str, Any] = s3.get_object(Bucket=bucket, Key=key, **wanted)
        wanted["IfMatch"] = answer["ETag"]
        try:
            for chunk in answer["Body"].iter_chunks(CHUNK):
                take(chunk)
                offset += len(chunk)
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
            attempt += 1
            if attempt == ATTEMPTS:
                raise
            time.sleep(min(0.1 * 2**attempt, LONGEST_WAIT))
        else:
            return answer


def sum_of(s3: Any, bucket: str, key: str) -> str:
    """SHA-256 of an object, read back from the server."""
    digest = hashlib.sha256()
    read(s3, bucket, key, digest.update)
    return digest.hexdigest()


def download(s3: Any, where: Place, key: str, path: Path, entry: Mapping[str, Any]) -> int:
    """Bring an object to a file, going on from the bytes that are there; return bytes read.

    Args:
        s3: client.
        where: the bucket.
        key: of the object.
        path: the file, which may hold the beginning.
        entry: its `sha256` and `bytes`.

    Raises:
        UserError: the object is not what the entry says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):  # a beginning of something else is found out at the end: from scratch then
        digest = hashlib.sha256()
        with path.open("ab+") as stream:
            stream.seek(0)
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
            start = stream.tell()

            def take(chunk: bytes, stream: Any = stream, digest: Any = digest) -> None:
                stream.write(chunk)
                digest.update(chunk)

            if start < entry["bytes"]:
                read(s3, where.bucket, key, take, start)
        if digest.hexdigest() == entry["sha256"]:
            return int(entry["bytes"]) - start
        path.unlink()
        if not start:
            break
    raise UserError(
        "object differs from what was published",
        where=f"{where.url}/{key}",
        fix="publish the version anew",
    )


def _multipart(s3: Any, where: Place, key: str, path: Path, sha256: str) -> int:
    """Send a large file part by part; parts of an earlier upload that are the same are kept."""
    from botocore.exceptions import ClientError

    size = path.stat().st_size
    part = max(PART, -(-size // MOST_PARTS))
    count = -(-size // part)
    mine = {n: _describe(_slice(path, part, n)) for n in range(1, count + 1)}
    upload_id, there = _unfinished(s3, where, key, mine)
    if upload_id is None:
        # The algorithm is said so that the server lists each part's own sum.
        upload_id = s3.create_multipart_upload(
            Bucket=where.bucket,
            Key=key,
            ChecksumAlgorithm="SHA256",
            **_about(where, key, sha256),
        )["UploadId"]

    def send(number: int) -> dict[str, Any]:
        digest = mine[number]["sha256"]
        done = there.get(number)
        tag = done["ETag"] if done else None
        if tag is None:
            tag = s3.upload_part(
                Bucket=where.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=_slice(path, part, number),
                ChecksumSHA256=digest,
            )["ETag"]
        return {"PartNumber": number, "ETag": tag, "ChecksumSHA256": digest}

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(send, mine))
    try:
        s3.complete_multipart_upload(
            Bucket=where.bucket,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )
    except ClientError as error:
        # Completed before, by a request whose answer was lost or by another process.
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise
    if not is_there(s3, where, key, sha256, size):
        # The upload that was gone on with was begun for another file with the same first parts. It
        # is complete now, so that this one begins anew and takes the object's place.
        return _multipart(s3, where, key, path, sha256)
    return sum(mine[number]["bytes"] for number in mine if number not in there)


def _unfinished(
    s3: Any, where: Place, key: str, mine: Mapping[int, Mapping[str, Any]]
) -> tuple[str | None, dict[int, Mapping[str, Any]]]:
    """The newest unfinished upload whose parts all are of this file, and those parts."""
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=where.bucket, Prefix=key)
    begun = [one for page in pages for one in page.get("Uploads", []) if one["Key"] == key]
    for one in sorted(begun, key=lambda upload: upload["Initiated"], reverse=True):
        parts = {part["PartNumber"]: part for part in _parts(s3, where, key, one["UploadId"])}
        if parts and all(number in mine and _same(mine[number], parts[number]) for number in parts):
            return str(one["UploadId"]), parts
    return None, {}


def _parts(s3: Any, where: Place, key: str, upload_id: str) -> Iterator[Mapping[str, Any]]:
    from botocore.exceptions import ClientError

    pages = s3.get_paginator("list_parts").paginate(
        Bucket=where.bucket, Key=key, UploadId=upload_id
    )
    try:
        for page in pages:
            yield from page.get("Parts", [])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":  # ended meanwhile
            raise


def _same(mine: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Whether a listed part is ours: by its SHA-256, or by its MD5 where no other sum is listed."""
    if part["Size"] != mine["bytes"]:
        return False
    if "ChecksumSHA256" in part:
        return bool(part["ChecksumSHA256"] == mine["sha256"])
    return bool(part["ETag"].strip('"') == mine["md5"])


def _describe(data: bytes) -> dict[str, Any]:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {"bytes": len(data), "sha256": _sum(data), "md5": md5}


def _slice(path: Path, part: int, number: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek((number - 1) * part)
        return stream.read(part)


def _sum(data: bytes) -> str:
    """SHA-256 as S3 writes it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _about(where: Place, key: str, sha256: str) -> dict[str, Any]:
    import mimetypes

    kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
    return {"ContentType": kind, "Metadata": {"sha256": sha256}, **where.options}
