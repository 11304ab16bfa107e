"""Send what a green run made to S3: DVC's cache and run-cache, then the published version.

An S3 that stops answering is asked again for a while; then the run ends with one line, and the next
one sends what is missing.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from dualvla import config, costs
from dualvla.errors import OutageError
from dualvla.stages import runner
from dualvla.store import aliases, client, outages, registry, traffic, versions
from tasks.run import RETRAIN, Pipeline, Run, commit
from tasks.stage import REPEATED


def version(folder: Path, pipeline: Pipeline = RETRAIN) -> str:
    """Prefix of the version that DVC's lock describes: the same content has the same name."""
    lock = config.read_yaml(folder / pipeline.lock)
    # The order in which stages finished is not content.
    content = json.dumps(lock["stages"], sort_keys=True)
    return f"{pipeline.name}/{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def contents(run: Run) -> dict[str, Path]:
    """What is published of a run beside its models: the report and the record of its making."""
    made, report = run.pipeline, run.pipeline.report.as_posix()
    names = {RETRAIN.lock, RETRAIN.file, "params.yaml", made.lock, made.file, report}
    return registry.record(run.folder, names)


@task(name="push", task_run_name="push", cache_policy=NO_CACHE, **REPEATED)
def push(run: Run) -> State:
    """Push DVC's cache and run-cache, so that others restore instead of recomputing.

    Raises:
        OutageError: S3 stopped answering, or DVC could not send something.
    """
    with outages.told(run.where):
        return _push(run)


def _push(run: Run) -> State:
    if versions.read_manifest(run.where, version(run.folder, run.pipeline)) is not None:
        return Completed(name="Cached", message="this version was pushed before")
    logger = get_run_logger()
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        logger.info(line)

    with costing("push", run):
        before = client.stored_bytes(run.where, client.DVC)
        code = run.session.run([sys.executable, "-m", "dvc", "push", "--run-cache"], take)
        if code != 0:
            said = lines[-1] if lines else f"it ended with {code}"
            raise OutageError(f"dvc push: {said}", where=run.where.url, fix=outages.AGAIN)
        # DVC does not tell what it moved: what the remote has gained, by others at that moment too.
        traffic.add(sent=max(0, client.stored_bytes(run.where, client.DVC) - before))
    return Completed()


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE, **REPEATED)
def publish(run: Run) -> versions.Version:
    """Upload the evaluated models to the registry, then the run's report, and verify every sum.

    The run's own version comes last: who sees it finds all models that it names. Each model's
    `candidate` then is what this run made.

    Raises:
        OutageError: S3 stopped answering.
    """
    with outages.told(run.where), costing("publish", run):
        return _publish(run)


def _publish(run: Run) -> versions.Version:
    params, root = run.plan.params, run.plan.root
    prefix = version(run.folder, run.pipeline)
    about = {"profile": params.profile, "seed": params.seed, "commit": commit(root)}
    models = {}
    for model in params.evaluate.models if run.pipeline.models else ():
        entry = registry.publish(run.where, run.folder, model, run=prefix, commit=about["commit"])
        _tell(run, entry)
        models[model] = entry.prefix
    done = versions.publish(run.where, prefix, contents(run), about | {"models": models})
    _tell(run, done)
    for model, place in models.items():
        propose(run, model, place.rpartition("/")[2])
    return done


@contextlib.contextmanager
def costing(name: str, run: Run) -> Iterator[None]:
    """Write what a task of this process cost beside the costs of the stages, for the next report.

    Memory is that of the whole flow.
    """
    meter = costs.Meter()
    yield
    runner.write_timing(name, {}, meter.read(), run.folder)


def propose(run: Run, model: str, made: str) -> None:
    """Point a model's `candidate` at the version that this run made."""
    seen = aliases.read(run.where, model, "candidate")
    if seen.version == made:
        return
    try:
        aliases.move(run.where, seen, made, why=version(run.folder, run.pipeline))
    except aliases.MovedError as error:
        # Another run ended at the same moment: either is a candidate, none is lost.
        get_run_logger().warning(str(error))


def _tell(run: Run, done: versions.Version) -> None:
    size = f"{done.files} files, {done.bytes / 2**20:.1f} MiB"
    what = f"published and verified, {size}" if done.new else "was published before"
    get_run_logger().info(f"s3://{run.where.bucket}/{done.prefix} {what}")
