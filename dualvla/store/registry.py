"""The registry: every evaluated model of a green run, with what is needed to judge and to run it.

`registry/MODEL/VERSION/` holds the weights once, beside the results that were measured with them;
`retrain/HASH` holds the run's report and names its versions, and each version names the first run
that made it. A version's name is derived from DVC's hashes of the weights and results, so the same
model with the same results is the same version, whichever run comes to it. Older runs kept weights
of their own under `retrain/`: a model that a run did not change was stored again.
"""

import datetime
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dualvla import config, files, paths
from dualvla.errors import UserError
from dualvla.lineage import openlineage
from dualvla.report import card, lineage
from dualvla.store import aliases, client, versions
from dualvla.store.client import Place
from dualvla.store.versions import Listed, Version

ROOT = "registry"
RESULTS = {
    "evaluate": paths.EVALUATION,
    "benchmark": paths.BENCHMARK,
    "score": paths.SCORE,
    "diagnose": paths.DIAGNOSIS,
}
RECORD = ("dvc.lock", "dvc.yaml", "params.yaml")
INPUT = paths.INCOMING.as_posix()  # what a run read that git may not have: which shards there were
CARD = "README.md"
SHORTEST = 4  # digits that may stand for a version's name
CANARY = 2  # first episodes of each task that show whether a policy acts at all


def publish(where: Place, folder: Path, model: str, *, run: str, commit: str) -> Version:
    """Publish one model of a finished run, with results, card, report and record.

    Args:
        where: the bucket.
        folder: the run's workspace.
        model: specialist, generalist or an arm.
        run: published version of the run, such as `retrain/0123456789abcdef`.
        commit: the code's.

    Raises:
        UserError: a result is missing, or is not recorded in dvc.lock.
    """
    name = version_of(folder, model)
    prefix = f"{ROOT}/{model}/{name}"
    found = versions.read_manifest(where, prefix)
    if found is not None:
        return versions.published(prefix, found)
    params = config.load(folder / "params.yaml")
    summary = files.read_json(folder / paths.REPORT / "summary.json")
    with tempfile.TemporaryDirectory() as beside:
        text, events = Path(beside) / CARD, Path(beside) / openlineage.FILE
        text.write_text(card.render(model, summary, params, version=name), encoding="utf-8")
        told = about(folder, model, summary) | {"run": run, "commit": commit}
        events.write_text(_events(where, folder, prefix, told, summary), encoding="utf-8")
        contents = {
            "model": folder / paths.model(model),
            **{kind: folder / place / model for kind, place in RESULTS.items()},
            "report": folder / paths.REPORT,
            **record(folder, RECORD),
            CARD: text,
            openlineage.FILE: events,
        }
        return versions.publish(where, prefix, contents, told)


def record(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """What is published of a run to know how it was made: these files, and its list of inputs."""
    there = (folder / INPUT).is_file()
    return {name: folder / name for name in sorted({*names, *([INPUT] if there else [])})}


def _events(
    where: Place, folder: Path, prefix: str, told: Mapping[str, Any], summary: Mapping[str, Any]
) -> str:
    """The lineage of a version as OpenLineage events, its publication last."""
    lock, model = lineage.read_lock(folder / "dvc.lock"), told["model"]
    stages = lineage.ancestry(lock, lineage.of_model(lock, model))
    now = datetime.datetime.now(datetime.UTC)
    found = openlineage.events(stages, summary, commit=told["commit"], at=now)
    ends = [row for row in stages if row["stage"] in lineage.of_model(lock, model)]
    found += openlineage.publication(ends, f"s3://{where.bucket}", prefix, at=now)
    return openlineage.dumps(found)


def version_of(folder: Path, model: str) -> str:
    """Name of a model's version: a hash of DVC's hashes of its weights and results."""
    lock = lineage.read_lock(folder / "dvc.lock")
    outs = {out["path"]: out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    wanted = [paths.model(model), *(place / model for place in RESULTS.values())]
    missing = [place.as_posix() for place in wanted if outs.get(place.as_posix()) is None]
    if missing:
        what = f"no record of {', '.join(missing)}"
        raise UserError(what, where=str(folder / "dvc.lock"), fix="run `dvc repro`")
    content = json.dumps({place.as_posix(): outs[place.as_posix()] for place in wanted})
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def about(folder: Path, model: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a version's manifest says of the model: parameters, data, metrics with intervals."""

    def rows(key: str) -> list[Mapping[str, Any]]:
        return [row for row in summary[key] if row["model"] == model]

    lock = lineage.read_lock(folder / "dvc.lock")
    maker = lineage.stage_of(lock, paths.model(model))
    above = lineage.ancestry(lock, [maker] if maker else [])
    data = {
        path: md5
        for row in above
        for path, md5 in row["files"]["outs"].items()
        if path.startswith("data/")
    }
    return {
        "model": model,
        "profile": summary["profile"],
        "seed": summary["seed"],
        "params": config.read_yaml(folder / "params.yaml"),
        "dvc_lock": files.sha256(folder / "dvc.lock"),
        "chain": above[-1]["chain"] if above else None,
        "data": data,
        "environment": files.read_json(folder / paths.model(model) / "environment.json"),
        "metrics": {key: rows(key) for key in ("success", "questions", "vla_score")},
        "quality": [
            {key: row[key] for key in ("suite", "subject", "success")} for row in summary["quality"]
        ],
        "canary": canary(folder / paths.EVALUATION / model),
    }


def canary(evaluated: Path) -> dict[str, Any]:
    """Whether the first episodes of each task show a policy that acts; a weak one may fail them."""
    import pandas as pd

    from dualvla.evaluation import evaluator, simpler

    episodes = pd.read_parquet(evaluated / simpler.EPISODES)
    first = episodes.groupby(["starts", "task"], sort=False).head(CANARY)
    steps = pd.read_parquet(evaluated / simpler.STEPS)
    steps = steps.merge(first[simpler.KEY], on=simpler.KEY)
    what = evaluator.broken(simpler.Outcome(first, steps, 0.0))
    ran = int((first["status"] == "ok").sum())
    if what is None and not ran:
        what = "no episode ran to its end"
    return {"passed": what is None, "episodes": len(first), "ran": ran, "remark": what}


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a version's weights as `files.sha256` has it of their folder."""
    digest = hashlib.sha256()
    for name in sorted(manifest["files"], key=PurePosixPath):
        if name.startswith("model/"):
            sum_ = manifest["files"][name]["sha256"]
            digest.update(f"{name.removeprefix('model/')}\0{sum_}\n".encode())
    return digest.hexdigest()


def models(where: Place) -> list[str]:
    """Names of the models that have versions."""
    return versions.folders(client.connect(where), where, ROOT)


def listing(where: Place, model: str) -> list[Listed]:
    """Versions of a model, oldest first."""
    return versions.listing(where, f"{ROOT}/{model}")


def resolve(where: Place, model: str, wanted: str) -> str:
    """Name of the version that an alias, a whole name or the beginning of one stands for.

    Raises:
        UserError: no such version, an alias that is not set, or a beginning of several names.
    """
    place = f"{ROOT}/{model}"
    if wanted in aliases.NAMES:
        version = aliases.read(where, model, wanted).version
        if version is None:
            fix = "`dualvla models list` shows what there is"
            raise UserError(f"{wanted} is not set", where=place, fix=fix)
        return version
    if versions.read_manifest(where, f"{place}/{wanted}") is not None:
        return wanted
    names = [one.name for one in listing(where, model)]
    found = [name for name in names if len(wanted) >= SHORTEST and name.startswith(wanted)]
    if len(found) != 1:
        what = f"{wanted} may be {' or '.join(found)}" if found else f"no version {wanted}"
        fix = f"one of {', '.join([*aliases.NAMES, *names])}" if names else "publish one: retrain"
        raise UserError(what, where=place, fix=fix)
    return found[0]


def prefix_of(where: Place, model: str, wanted: str) -> str:
    """Prefix of the version that `wanted` stands for, see `resolve`."""
    return f"{ROOT}/{model}/{resolve(where, model, wanted)}"
