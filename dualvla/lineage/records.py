"""What is known of one run: its lock, its report and the commit of its code.

A workspace and a published version hold the same files, so that whatever is asked of one can be
asked of the other; only where they are read from differs.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualvla import files, paths
from dualvla.errors import UserError
from dualvla.report import lineage
from dualvla.report.lineage import Lock
from dualvla.store import registry, versions
from dualvla.store.client import Place

RUNS = "retrain"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Record:
    """One run."""

    place: str  # for people: a folder or a version's prefix
    lock: Lock
    summary: Mapping[str, Any]
    about: Mapping[str, Any]  # of a version's manifest; empty for a workspace
    read: Callable[[Path], bytes]  # a result by its path in the workspace

    @property
    def commit(self) -> str | None:
        """Of the code; None for a workspace, whose stages may have run at several."""
        return self.about.get("commit")


def of_workspace(folder: Path) -> Record:
    """The last run in a folder; a `UserError` if there is no report or no lock."""
    lock = lineage.read_lock(folder / "dvc.lock")
    if not lock:
        fix = "`dualvla retrain`, or `dualvla repro`"
        raise UserError("nothing is recorded here yet", where=str(folder / "dvc.lock"), fix=fix)
    summary = files.read_json(folder / paths.REPORT / SUMMARY)

    def read(path: Path) -> bytes:
        if not (folder / path).is_file():
            raise UserError("no such file", where=str(folder / path), fix="run its stage")
        return (folder / path).read_bytes()

    return Record(str(folder), lock, summary, {}, read)


def prefix_of(where: Place, wanted: str) -> str:
    """Prefix of the version that `MODEL/VERSION` or `retrain/HASH` names; see registry.resolve.

    Raises:
        UserError: it has another form, or there is no such version.
    """
    group, _, name = wanted.partition("/")
    if not name or "/" in name:
        fix = "such as dualvla/production, or retrain/0123456789abcdef"
        raise UserError(f"{wanted} is no version", fix=fix)
    return wanted if group == RUNS else registry.prefix_of(where, group, name)


def of_version(where: Place, prefix: str) -> Record:
    """The run that made a published version; a `UserError` if there is no such version."""
    manifest = versions.require(where, prefix)

    def content(name: str) -> bytes:
        return versions.read(where, prefix, manifest, name)

    def read(path: Path) -> bytes:
        model = manifest["about"].get("model")
        for kind, folder in registry.RESULTS.items():
            if model is not None and path.is_relative_to(folder / model):
                return content(f"{kind}/{path.relative_to(folder / model).as_posix()}")
        raise UserError(f"it does not hold {path}", where=prefix, fix="ask that model's version")

    lock = yaml.safe_load(content("dvc.lock")).get("stages", {})
    summary = json.loads(content(f"{paths.REPORT}/{SUMMARY}"))
    return Record(prefix, lock, summary, manifest["about"], read)
