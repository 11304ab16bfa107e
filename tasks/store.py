"""Send what a green run made to S3: DVC's cache and run-cache, then the published version."""

import hashlib
import json
import sys
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from dualvla import config, paths
from dualvla.store import versions
from tasks.run import RETRAIN, Pipeline, Run, commit


def version(folder: Path, pipeline: Pipeline = RETRAIN) -> str:
    """Prefix of the version that DVC's lock describes: the same content has the same name."""
    lock = config.read_yaml(folder / pipeline.lock)
    # The order in which stages finished is not content.
    content = json.dumps(lock["stages"], sort_keys=True)
    return f"{pipeline.name}/{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def contents(run: Run) -> dict[str, Path]:
    """What is published: the report, evaluated models and the record of their making."""
    made, report = run.pipeline, run.pipeline.report.as_posix()
    names = {RETRAIN.lock, RETRAIN.file, "params.yaml", made.lock, made.file, report}
    if made.models:
        names |= {paths.model(name).as_posix() for name in run.plan.params.evaluate.models}
    return {name: run.folder / name for name in sorted(names)}


@task(name="push", task_run_name="push", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def push(run: Run) -> State:
    """Push DVC's cache and run-cache, so that others restore instead of recomputing."""
    if versions.read_manifest(run.where, version(run.folder, run.pipeline)) is not None:
        return Completed(name="Cached", message="this version was pushed before")
    logger = get_run_logger()
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        logger.info(line)

    code = run.session.run([sys.executable, "-m", "dvc", "push", "--run-cache"], take)
    if code != 0:
        raise RuntimeError(lines[-1] if lines else f"dvc push ended with {code}")
    return Completed()


@task(
    name="publish", task_run_name="publish", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5
)
def publish(run: Run) -> versions.Version:
    """Upload report and models as one version and verify every sum."""
    params = run.plan.params
    prefix = version(run.folder, run.pipeline)
    about = {"profile": params.profile, "seed": params.seed, "commit": commit(run.plan.root)}
    done = versions.publish(run.where, prefix, contents(run), about)
    size = f"{done.files} files, {done.bytes / 2**20:.1f} MiB"
    what = f"published and verified, {size}" if done.new else "was published before"
    get_run_logger().info(f"s3://{run.where.bucket}/{prefix} {what}")
    return done
