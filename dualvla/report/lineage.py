"""Where a figure comes from: the hashes of its data, parameters and code.

Everything is read from `dvc.lock`, which holds the md5 of every dependency and output and the value
of every parameter of every stage; git is not needed and its commit is not part of the page's bytes.
A lock can be older than the files in the workspace (a stage run by hand, an edited result), so the
outputs a report reads are hashed again and the lineage says whether they are those of the lock.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dualvla import config

SHORT = 8  # hexadecimal digits shown
PARTS = ("data", "params", "code")

Stage = Mapping[str, Any]
Lock = Mapping[str, Stage]
State = Literal["same", "changed", "inside", "unrecorded"]


def read_lock(path: Path | str = "dvc.lock") -> dict[str, Stage]:
    """Stages of a lock file by name; empty if there is none (a report outside DVC)."""
    if not Path(path).is_file():
        return {}
    return dict(config.read_yaml(path).get("stages", {}))


def md5(path: Path) -> str | None:
    """DVC's md5 of a file, or of a folder (its sorted list of files); None if missing."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    if not path.is_dir():
        return None
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    rows = [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode()).hexdigest() + ".dir"


def stage_of(lock: Lock, path: Path) -> str | None:
    """Name of the stage that writes `path`, something in it, or a folder around it."""
    wanted = PurePosixPath(path.as_posix())
    for name, stage in lock.items():
        for out in _items(stage, "outs"):
            place = PurePosixPath(out["path"])
            if place == wanted or place in wanted.parents or wanted in place.parents:
                return name
    return None


def of_model(lock: Lock, model: str) -> list[str]:
    """Stages that make a model or measure it, in the lock's order."""
    return [name for name in lock if name.rpartition("@")[2] == model]


def state(lock: Lock, path: Path) -> State:
    """Whether `path` in the workspace is what the lock says.

    Returns:
        same, changed, inside (part of a larger output, not hashed alone) or unrecorded.
    """
    name = stage_of(lock, path)
    if name is None:
        return "unrecorded"
    wanted = PurePosixPath(path.as_posix())
    outs = [
        out
        for out in _items(lock[name], "outs")
        if PurePosixPath(out["path"]) == wanted or wanted in PurePosixPath(out["path"]).parents
    ]
    if not outs:
        return "inside"
    same = all(md5(Path(out["path"])) == out.get("md5") for out in outs)
    return "same" if same else "changed"


def row(lock: Lock, name: str) -> dict[str, Any]:
    """One stage: short hashes of data, params, code and outs, and the stages it depends on.

    `code` are the dependencies that are Python files or folders of them, `data` all others. The
    hash of several things is the md5 of their sorted paths and md5s.
    """
    stage = lock[name]
    deps, outs = _items(stage, "deps"), _items(stage, "outs")
    code = [dep for dep in deps if _is_code(dep["path"])]
    data = [dep for dep in deps if not _is_code(dep["path"])]
    params = stage.get("params", {})
    upstream = {stage_of(lock, Path(dep["path"])) for dep in data} - {None, name}
    return {
        "stage": name,
        "cmd": stage.get("cmd"),
        "data": _combined(data),
        "params": _digest(params) if params else None,
        "code": _combined(code),
        "outs": _combined(outs),
        "upstream": sorted(str(stage) for stage in upstream),
        "files": {
            "data": {dep["path"]: dep.get("md5") for dep in data},
            "code": {dep["path"]: dep.get("md5") for dep in code},
            "outs": {out["path"]: out.get("md5") for out in outs},
        },
        "values": params,
    }


def ancestry(lock: Lock, names: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of `names` and of everything upstream of them, sources first, each once.

    `chain` of a row is the hash of its own command, data, params and code and of the chains
    upstream: it changes if anything that led to the stage's output does.
    """
    rows: dict[str, dict[str, Any]] = {}

    def visit(name: str) -> None:
        if name in rows:
            return
        mine = row(lock, name)
        rows[name] = mine  # before its parents: a lock of two generations may hold a cycle
        for parent in mine["upstream"]:
            visit(parent)
        above = [rows[parent].get("chain") for parent in mine["upstream"]]
        mine["chain"] = _digest([mine["cmd"], *(mine[key] for key in PARTS), above])
        rows[name] = rows.pop(name)

    for name in names:
        visit(name)
    return list(rows.values())


def _items(stage: Stage, key: str) -> list[Mapping[str, Any]]:
    return list(stage.get(key) or [])


def _is_code(path: str) -> bool:
    return path.endswith(".py") or PurePosixPath(path).parts[0] in ("dualvla", "flows", "tasks")


def _combined(items: Iterable[Mapping[str, Any]]) -> str | None:
    pairs = sorted((item["path"], item.get("md5")) for item in items)
    return _digest(pairs) if pairs else None


def _digest(data: Any) -> str:
    return hashlib.md5(json.dumps(data, sort_keys=True).encode()).hexdigest()[:SHORT]
