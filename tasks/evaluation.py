"""Steps of an evaluation on demand: what is asked for, pulled, simulated, published and shown."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dualvla import files, workspace
from dualvla.evaluation import evaluator, protocol
from dualvla.evaluation.simpler import EPISODES
from dualvla.simulation.environments import Pack
from dualvla.store import client, outages, registry, versions
from dualvla.store.client import Place
from dualvla.workspace import Workspace
from tasks import artifacts
from tasks.run import commit
from tasks.session import Session

ROOT = "evaluations"  # in the bucket
CACHE = Path(".cache/evaluations")
KEY = "evaluation"  # of the artifact
DIGITS = 12  # of the hash in a result's name


@dataclass(frozen=True)
class Asked:
    """What is evaluated and how; every field but `videos` may change an outcome."""

    model: str
    suite: str
    assets: Pack
    tasks: list[str] | None
    episodes: int | None
    videos: int
    seed: int
    reason: str
    reason_every: int


@dataclass(frozen=True)
class Found:
    """A version that is there, and where its result belongs."""

    where: Place
    version: str  # prefix of the version
    prefix: str  # of the result
    out: Path  # folder of the result on this machine
    published: bool  # whether the result is in the bucket


def prepare(plan: Workspace, asked: Asked, version: str) -> Found:
    """Find the version and name the result; nothing is written.

    Raises:
        UserError: no such version, suite or task, or S3 does not answer.
    """
    chosen = protocol.load(asked.suite)
    resolved = protocol.resolve(
        chosen, asked.assets, asked.seed, tasks=asked.tasks, limit=asked.episodes
    )
    where = client.place(plan.params.store, plan.root)
    client.check(where, create=where.local)
    with outages.told(where):
        place = registry.prefix_of(where, asked.model, version)
    every = asked.reason_every if asked.reason == "every_n" else None
    how = json.dumps([resolved.hash, asked.reason, every, evaluator.code()])
    name = f"{chosen.name}-{hashlib.sha256(how.encode()).hexdigest()[:DIGITS]}"
    inner = f"{place.removeprefix(f'{registry.ROOT}/')}/{name}"
    prefix = f"{ROOT}/{inner}"
    with outages.told(where):
        published = versions.read_manifest(where, prefix) is not None
    return Found(where, place, prefix, plan.root / CACHE / inner, published)


@task(name="simulate", task_run_name="simulate", cache_policy=NO_CACHE, persist_result=False)
def simulate(plan: Workspace, asked: Asked, found: Found, workers: int) -> tuple[int, str]:
    """Pull the version and run it, unless that was done; the exit code and the last line.

    A killed evaluation goes on with the next episode.
    """
    logger = get_run_logger()
    model = found.out.parent / "version"
    with outages.told(found.where):
        versions.pull(found.where, found.version, model)
    said = ""

    def take(line: str) -> None:
        nonlocal said
        said = line.removeprefix("error: ") or said
        logger.info(line)

    # Its own mark: it holds no lock of the tree, whose next run would take it for an orphan.
    session = Session(plan.root, workspace.environment(plan), os.cpu_count() or 1, found.out)
    command = [sys.executable, "-m", "dualvla.cli", "evaluate", *_options(asked, found, model)]
    try:
        return session.run([*command, "--workers", str(workers)], take), said
    finally:
        session.stop()


@task(
    name="publish", task_run_name="publish", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5
)
def publish(plan: Workspace, found: Found) -> versions.Version:
    """Upload the result beside all others of the version, and verify every sum."""
    summary = files.read_json(found.out / evaluator.SUMMARY)
    about = {"version": found.version, "commit": commit(plan.root), "summary": summary}
    content = {path.name: path for path in found.out.iterdir()}
    with outages.told(found.where):
        done = versions.publish(found.where, found.prefix, content, about)
    get_run_logger().info(f"s3://{found.where.bucket}/{done.prefix}: {done.files} files")
    return done


def show(found: Found) -> None:
    """Show the published result as a table in the UI."""
    with outages.told(found.where):
        manifest = versions.require(found.where, found.prefix)
    create_markdown_artifact(page(found, manifest["about"]["summary"]), key=KEY)


def page(found: Found, summary: Mapping[str, Any]) -> str:
    """The result in words and one table."""
    about = summary["protocol"]
    rows = [
        (
            row["starts"],
            row["task"],
            f"{row['k']}/{row['n']}",
            *artifacts.interval(row),
            row["errors"],
        )
        for row in summary["rates"]
    ]
    header = ("starts", "task", "successes", "rate", "low", "high", "errors")
    return (
        f"# {found.version} under {about['name']}\n\n"
        f"Protocol {about['hash'][:DIGITS]}, {summary['assets']} assets, success mode "
        f"{summary['success_mode']}, seed {summary['seed']}, reasoning {summary['reason']}; "
        "Wilson 95 % intervals.\n\n"
        f"{artifacts.table(header, rows)}\n\n"
        f"Episodes, films and protocol: s3://{found.where.bucket}/{found.prefix} "
        f"(`{EPISODES}`, `gallery.html`)"
    )


def _options(asked: Asked, found: Found, model: Path) -> list[str]:
    given = {
        "policy": model / "model",
        "suite": asked.suite,
        "out": found.out,
        "assets": asked.assets,
        "tasks": ",".join(asked.tasks) if asked.tasks else None,
        "episodes": asked.episodes,
        "videos": asked.videos,
        "seed": asked.seed,
        "reason": asked.reason,
        "reason-every": asked.reason_every,
        "name": asked.model,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return [part for name, value in chosen.items() for part in (f"--{name}", str(value))]
