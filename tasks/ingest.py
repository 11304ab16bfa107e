"""One offered shard as one task, so that the UI shows what became of each."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from dualvla import ingestion
from dualvla.config import Params
from dualvla.ingestion import Outcome
from dualvla.store import outages
from dualvla.store.client import Place
from dualvla.store.shards import Offer
from tasks import artifacts

NAMES = {"ingested": "Ingested", "quarantined": "Quarantined", "known": "Cached"}
KEY = "shards"  # of the artifact


@task(
    name="ingest",
    task_run_name="{offer.key}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=5,
)
def ingest(where: Place, offer: Offer, params: Params, cache: Path, again: bool) -> State[Outcome]:
    """Ingest or quarantine a shard; S3 that does not answer is tried again."""
    with outages.told(where):
        found = ingestion.ingest(where, offer, params, cache, again=again)
    return Completed(name=NAMES[found.verdict], message=found.remark, data=found)


def table(outcomes: list[Outcome]) -> str:
    """What became of each shard, for people."""
    rows = [(one.key, one.verdict, one.sha256[:12], one.remark) for one in outcomes]
    return artifacts.table(("shard", "verdict", "content", "remark"), rows)
