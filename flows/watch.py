"""Watch: new shards in the bucket -> gate -> training data or quarantine -> retrain.

Nothing here waits for a training: what is new is handed to the retrain's own deployment, which runs
one at a time. It is asked for once for each set of ingested shards, by a key that Prefect's server
keeps, so that a watch that was killed in between loses no training and starts none twice.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed
from pydantic import Field

from dualvla import ingestion, redaction, workspace
from dualvla.data import incoming
from dualvla.errors import UserError
from dualvla.ingestion import Outcome
from dualvla.store import client, outages, shards
from dualvla.workspace import Workspace
from tasks import ingest, run

DEPLOYMENT = "retrain/nightly"
CACHE = Path(".cache/incoming")


@flow(name="watch", flow_run_name="watch-{prefix}")
def watch(
    prefix: Annotated[str, Field(min_length=1)] = shards.OFFERED,
    retrain: Annotated[str, Field(pattern="^[^/]+/[^/]+$")] | None = DEPLOYMENT,
    again: bool = False,
    root: str = ".",
    profile: str | None = None,
) -> State:
    """Ingest new shards, put bad ones into quarantine, and retrain if there is something new.

    Args:
        prefix: in the bucket, below which shards are offered.
        retrain: deployment that trains on them, FLOW/DEPLOYMENT; None only ingests.
        again: look once more at shards in quarantine, after an expectation was mended.
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
    """
    try:
        plan = workspace.plan(Path(root), profile)
        trains = plan.params.demonstrations.source == "incoming"
        if retrain and trains:
            _require(retrain)
        where = client.place(plan.params.store, plan.root)
        client.check(where, create=where.local)
        cache = plan.root / CACHE
        cache.mkdir(parents=True, exist_ok=True)
        with outages.told(where), workspace.exclusive(cache):
            outcomes, failures = _ingest(where, prefix, plan, cache, again)
            index = shards.read_index(where)
    except UserError as error:
        name = "BadInput" if error.exit_code == UserError.exit_code else None
        return Failed(name=name, message=redaction.redact(str(error)))
    if outcomes:
        create_markdown_artifact(ingest.table(outcomes), key=ingest.KEY)
    verdicts = [one.verdict for one in outcomes]
    said = [f"{verdicts.count(name)} {name}" for name in ingest.NAMES]
    if retrain and trains:
        said += _ask(retrain, profile, shards.ingested(index))
    elif retrain and "ingested" in verdicts:
        source = plan.params.demonstrations.source
        said.append(f"no retrain: demonstrations.source is {source}, not incoming")
    if failures:
        return Failed(message="; ".join([*failures, *said]))
    return Completed(message="; ".join(said))


def _ingest(
    where: client.Place, prefix: str, plan: Workspace, cache: Path, again: bool
) -> tuple[list[Outcome], list[str]]:
    """What became of each new shard, and what failed for no fault of a shard."""
    logger = get_run_logger()
    offered, strays = shards.offers(where, prefix)
    if strays:
        logger.warning(f"{strays} objects belong to no whole shard: its {shards.LAST} comes last")
    fresh = ingestion.waiting(shards.read_index(where), offered, again=again)
    logger.info(f"{len(offered)} shards, {len(fresh)} of them new")
    outcomes, failures = [], []
    for offer in fresh:
        state = ingest.ingest(where, offer, plan.params, cache, again, return_state=True)
        if state.is_completed():
            outcomes.append(state.result())
        else:
            failures.append(f"{offer.key}: {state.message}")
    return outcomes, failures


def _require(deployment: str) -> None:
    with get_client(sync_client=True) as api:
        try:
            api.read_deployment_by_name(deployment)
        except ObjectNotFound as error:
            what = f"no deployment {deployment}"
            raise UserError(what, where="retrain", fix="`dualvla deploy` makes them") from error


def _ask(deployment: str, profile: str | None, ingested: list[dict[str, object]]) -> list[str]:
    """Ask for one retrain on this set of shards, however often it is seen."""
    if not ingested:
        return []
    content = json.dumps(incoming.manifest(ingested), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    asked = run_deployment(
        deployment,
        parameters={"profile": profile},
        timeout=0,
        as_subflow=False,
        idempotency_key=f"watch {profile} {digest}",
    )
    return [f"{deployment} on {len(ingested)} shards is run {asked.name}"]


def main() -> None:
    """Run the flow from the command line; exit with 0, 2 bad input or 1."""
    parser = argparse.ArgumentParser(prog="python -m flows.watch", description=__doc__)
    parser.add_argument("--root", default=".", help="the project's folder")
    parser.add_argument("--profile", help="overlay of params/")
    parser.add_argument("--prefix", default=shards.OFFERED, help="where shards are offered")
    parser.add_argument("--retrain", help="deployment that trains, such as retrain/nightly")
    parser.add_argument("--again", action="store_true", help="look at quarantined ones once more")
    state = watch(**vars(parser.parse_args()), return_state=True)
    if not state.is_completed():
        sys.stderr.write(f"error: {state.message}\n")
    sys.exit(run.exit_code(state))


if __name__ == "__main__":
    main()
