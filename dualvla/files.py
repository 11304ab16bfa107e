"""Files that are never half-written, and hashes of them.

Everything is written beside its final place and renamed, so that a reader sees the old or the new
content and a killed process leaves the old one. A folder cannot be renamed onto one that has files:
the old one steps aside first and is removed last, and `recover` puts it back where a kill fell
between the two renames. Linux can exchange two folders in one step, but not on every file system.
Outputs are deterministic: sorted keys, no time stamps.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualvla.errors import UserError


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to; rename it to `path` on success.

    One process at a time may replace the same folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(beside)
    try:
        yield beside
        if path.is_dir() and not path.is_symlink():
            os.rename(path, _aside(path))
        os.replace(beside, path)
    finally:
        _remove(beside)
        recover(path)


def recover(path: Path | str) -> None:
    """Put an old folder back that a kill left aside, or remove it if the new one is in its place.

    `replacing` does so first; whoever reads a folder that nobody will write anew must call it.
    """
    path = Path(path)
    aside = _aside(path)
    if not os.path.lexists(path):
        # Several processes of one run may find it at once; the fastest puts it back.
        with contextlib.suppress(FileNotFoundError):
            os.rename(aside, path)
    else:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path | str, data: Any) -> None:
    """Write JSON with sorted keys; NaN and infinity become null."""
    with replacing(path) as beside:
        text = json.dumps(_finite(data), indent=2, sort_keys=True, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read JSON; a `UserError` if the file is missing or damaged."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        fix = "run the stage that writes it"
        raise UserError("no such file", where=str(path), fix=fix) from error
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", where=str(path), fix="write it anew") from error


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_private(path: Path | str, text: str) -> None:
    """Write text atomically, for the eyes of the file's owner alone."""
    with replacing(path) as beside:
        beside.touch(mode=0o600, exist_ok=False)
        beside.write_text(text, encoding="utf-8")


def sha256(path: Path | str) -> str:
    """SHA-256 of a file, or of a folder's sorted relative names and file sums; hexadecimal."""
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_space(folder: Path | str, gib: float) -> None:
    """Raise a `UserError` if the disk of `folder` has less than `gib` GiB free."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        what = f"{free:.2f} GiB free on the disk, {gib:.2f} GiB needed"
        raise UserError(what, where=str(folder), fix="free some space, for example `dvc gc -w`")


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Name a path in errors of the operating system that name none, as those of writing do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _aside(path: Path) -> Path:
    """Where an old folder waits while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data
