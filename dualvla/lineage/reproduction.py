"""A published version made again from git and S3 alone, and compared with what was published.

The folder is a clone of the project at the manifest's commit with the version's parameters. Its
DVC cache is its own and empty, so that every stage really runs. It is prepared beside and then
takes its name; from then on DVC remembers what is done, and the same command goes on. Compared are
what the lock records of every stage and the sums of the manifest; the report holds wall times, so
of it `summary.json` is compared without them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dualvla import files, paths, workspace
from dualvla.errors import UserError
from dualvla.lineage import records
from dualvla.report import lineage
from dualvla.report.lineage import Lock
from dualvla.store import client, registry, versions
from dualvla.store.client import Place

MARK = Path(".dualvla/reproduces.json")
SHOWN = 12  # characters of a hash
SAME, TIMES, DIFFERS, LEFT = "same", "same but for times", "DIFFERS", "no stage any more"


class ReproductionError(UserError):
    """A stage failed on the way; nothing is known yet."""

    exit_code = 1


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    stage: str
    what: str
    published: str
    here: str
    verdict: str


def reproduce(
    where: Place, prefix: str, root: Path, into: Path, commit: str | None = None
) -> list[Finding]:
    """Make a version again in a folder of its own and compare; call again to go on.

    Args:
        where: the bucket.
        prefix: of the version.
        root: the project, whose git holds the commit.
        into: folder made, or made by an earlier call for the same version.
        commit: where its code was committed later; None is the commit that it names. Every file
            that a stage reads is compared with what was published before anything runs.

    Raises:
        UserError: the version's commit is not clean or not in git, an input is missing, or
            something else lies at `into`.
        ReproductionError: a stage failed.
    """
    manifest, into = versions.require(where, prefix), into.absolute()
    if not into.exists():
        wanted = commit or str(manifest["about"]["commit"])
        _prepare(where, prefix, root, _commit(root, prefix, wanted), into)
    mark = files.read_json(into / MARK) if (into / MARK).is_file() else {}
    if mark.get("version") != prefix:
        what = f"it holds {mark['version']}" if mark else "it is there and no reproduction"
        raise UserError(what, where=str(into), fix="choose another folder")
    if commit and _commit(root, prefix, commit) != mark["commit"]:
        what = f"it was made from commit {mark['commit'][:SHOWN]}"
        raise UserError(what, where=str(into), fix="choose another folder")
    with workspace.exclusive(into):
        # Stages that read from S3 are not below the folder that holds the local stack's keys.
        reached = {client.ENDPOINT: where.endpoint}
        reached |= where.keys.environment() if where.keys else {}
        environment = workspace.environment(workspace.plan(into)) | reached
        command = [sys.executable, "-m", "dvc", "repro"]
        code = subprocess.run(command, cwd=into, env=environment, check=False).returncode
    if code:
        fix = "see its lines; the same command goes on"
        raise ReproductionError(f"dvc repro ended with {code}", where=str(into), fix=fix)
    return compare(where, prefix, into)


def compare(where: Place, prefix: str, folder: Path) -> list[Finding]:
    """What a reproduced folder holds against what was published, stage by stage."""
    manifest = versions.require(where, prefix)
    record = records.of_version(where, prefix)
    here = lineage.read_lock(folder / "dvc.lock")
    found = list(_stages(record, here, folder))
    about = manifest["about"]
    made = {about["model"]: prefix} if "model" in about else about.get("models", {})
    for model, place in made.items():
        own = manifest if place == prefix else versions.require(where, place)
        found += _model(model, own, folder)
    return found


def table(found: list[Finding]) -> str:
    """The findings as text in columns."""
    rows = [("stage", "what", "published", "here", "verdict")]
    rows += [(one.stage, one.what, one.published, one.here, one.verdict) for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def _prepare(where: Place, prefix: str, root: Path, commit: str, into: Path) -> None:
    manifest = versions.require(where, prefix)
    beside = into.with_name(f".{into.name}.preparing")
    shutil.rmtree(beside, ignore_errors=True)  # of a call that was stopped
    beside.parent.mkdir(parents=True, exist_ok=True)
    _git("clone", "--quiet", "--no-checkout", str(root), str(beside))
    _git("-C", str(beside), "checkout", "--quiet", "--detach", commit)
    published = {
        name: versions.read(where, prefix, manifest, name)
        for name in (*registry.RECORD, registry.INPUT)
        if name in manifest["files"]
    }
    if (beside / "dvc.yaml").read_bytes() != published["dvc.yaml"]:
        what = f"its dvc.yaml is not that of commit {commit[:SHOWN]}"
        raise UserError(what, where=prefix, fix="publish from a clean tree")
    (beside / "dvc.lock").unlink(missing_ok=True)
    for name in published.keys() - {"dvc.lock", "dvc.yaml"}:
        files.write_text(beside / name, published[name].decode())
    workspace.write(workspace.plan(beside), client.remote_config(where, root))
    if tracked := _git("-C", str(beside), "ls-files", "*.dvc").split():
        pull = [sys.executable, "-m", "dvc", "pull", *tracked]
        code = subprocess.run(pull, cwd=beside, env=os.environ, check=False).returncode
        if code:
            raise UserError("inputs are missing in DVC's remote", where=where.url, fix="push them")
    _require_inputs(yaml.safe_load(published["dvc.lock"]).get("stages", {}), prefix, beside)
    files.write_json(beside / MARK, {"version": prefix, "commit": commit})
    beside.rename(into)


def _commit(root: Path, prefix: str, wanted: str) -> str:
    """The full name of a version's commit in the project's git."""
    if wanted == "nogit" or wanted.endswith("-dirty"):
        what = f"its code is in no commit: it was published from {wanted}"
        raise UserError(what, where=prefix, fix="commit it, and name that with --commit")
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        what = f"no commit {wanted} here"
        raise UserError(what, where=str(root), fix="`git fetch`, or run it in a full clone")
    return answer.stdout.strip()


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or ["no words"])[-1]
        raise UserError(f"git says: {said}", where=f"git {' '.join(arguments)}")
    return answer.stdout


def _require_inputs(lock: Lock, prefix: str, folder: Path) -> None:
    """Raise a `UserError` unless all that no stage makes is what the version's stages read."""
    wrong = {
        dep["path"]
        for stage in lock.values()
        for dep in stage.get("deps", [])
        if lineage.stage_of(lock, Path(dep["path"])) is None
        and lineage.md5(folder / dep["path"]) != dep.get("md5")
    }
    if wrong:
        what = f"not what its stages read: {', '.join(sorted(wrong))}"
        fix = "inputs belong into git or DVC; code must be that of the commit"
        raise UserError(what, where=prefix, fix=fix)


def _stages(record: records.Record, here: Lock, folder: Path) -> Iterator[Finding]:
    """A finding each output, and one for whatever else differs between two locks."""
    for name in (*here, *(name for name in record.lock if name not in here)):
        if name not in here:
            # All stages of dvc.yaml have run: a lock keeps what earlier ones left.
            yield Finding(name, "stage", "recorded", "none", LEFT)
            continue
        published, mine = record.lock.get(name, {}), here[name]
        for key in ("cmd", "params"):
            if mine.get(key) != published.get(key):
                first, second = (json.dumps(one.get(key)) for one in (published, mine))
                yield Finding(name, key, first, second, DIFFERS)
        yield from (one for one in _items(name, "deps", published, mine) if one.verdict == DIFFERS)
        for one in _items(name, "outs", published, mine):
            report = one.what == paths.REPORT.as_posix() and one.verdict == DIFFERS
            alike = report and _same_report(record, folder)
            yield replace(one, verdict=TIMES) if alike else one


def _items(
    name: str, kind: str, published: Mapping[str, Any], mine: Mapping[str, Any]
) -> Iterator[Finding]:
    """A finding each path that a stage read or wrote, in either lock."""
    sums = [
        {item["path"]: str(item.get("md5")) for item in stage.get(kind, [])}
        for stage in (published, mine)
    ]
    for path in sums[1] | sums[0]:
        pair = [one.get(path, "none") for one in sums]
        verdict = SAME if pair[0] == pair[1] else DIFFERS
        yield Finding(name, path, pair[0][:SHOWN], pair[1][:SHOWN], verdict)


def _same_report(record: records.Record, folder: Path) -> bool:
    told = files.read_json(folder / paths.REPORT / records.SUMMARY)
    return timeless(told) == timeless(record.summary)


def _model(model: str, manifest: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """The files of a model and its results against the sums of its manifest."""
    places = {"model": paths.model(model)}
    places |= {kind: place / model for kind, place in registry.RESULTS.items()}
    for kind, place in places.items():
        published = {
            name.removeprefix(f"{kind}/"): entry["sha256"]
            for name, entry in manifest["files"].items()
            if name.startswith(f"{kind}/")
        }
        here = {
            path.relative_to(folder / place).as_posix(): files.sha256(path)
            for path in (folder / place).rglob("*")
            if path.is_file()
        }
        names = sorted(published.keys() | here.keys())
        differing = [name for name in names if published.get(name) != here.get(name)]
        if not differing:
            count = f"{len(names)} files"
            yield Finding(manifest["version"], place.as_posix(), count, count, SAME)
        for name in differing:
            first, second = (one.get(name, "none")[:SHOWN] for one in (published, here))
            path = (place / name).as_posix()
            yield Finding(manifest["version"], path, first, second, DIFFERS)


def timeless(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A report's summary without what differs between two runs on the same inputs."""
    rest = {key: value for key, value in summary.items() if key != "timings"}
    if "decisions" in rest:
        rest["decisions"] = [
            {key: value for key, value in row.items() if key != "seconds_per_decision"}
            for row in rest["decisions"]
        ]
    return rest
