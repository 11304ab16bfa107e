"""Pools, limits and automations on a real server: set up twice is set up once, and they act."""

import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import prefect_calls
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from dualvla import stack
from dualvla.deployment import POOLS
from tasks import automations
from tasks.run import EXIT_CODES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def api(servers):
    url = f"{stack.status(servers)['prefect'][0]}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        yield url
        # Other tests' runs on this server must not be closed after ten seconds.
        with get_client(sync_client=True) as client:
            for one in client.read_automations():
                client.delete_automation(one.id)


def test_twice_is_once_and_a_change_is_taken_over(api, prefect_api):
    hook = "https://hooks.example/secret-1"
    automations.set_up(hook, slots=2)
    before = prefect_api("/automations/filter", {})
    assert {one["name"] for one in before} == {automations.NOTIFY, automations.ZOMBIES}
    automations.set_up(hook, slots=2)
    assert prefect_api("/automations/filter", {}) == before, "nothing was written again"

    pools = {one["name"]: one for one in prefect_api("/work_pools/filter", {})}
    assert set(POOLS) <= set(pools)
    assert pools["gpu"]["concurrency_limit"] == 2
    assert {pools[name]["type"] for name in POOLS} == {"process"}

    automations.set_up(None, slots=1, zombie_after=timedelta(minutes=30))
    pools = {one["name"]: one for one in prefect_api("/work_pools/filter", {})}
    assert pools["gpu"]["concurrency_limit"] == 1
    after = {one["name"]: one for one in prefect_api("/automations/filter", {})}
    assert after[automations.ZOMBIES]["trigger"]["within"] == 1800
    assert {one["id"] for one in after.values()} == {one["id"] for one in before}
    assert hook not in str(prefect_api("/block_documents/filter", {}))


def test_every_name_that_a_flow_gives_its_ending_is_known():
    code = "".join(path.read_text() for path in (ROOT / "flows").glob("*.py"))
    named = set(re.findall(r"(?:Completed|Failed|Crashed)\(\s*name=\"(\w+)\"", code))
    assert {"BadInput", "Cached", "Refused"} <= named
    assert {*named, *EXIT_CODES} <= set(automations.ENDINGS)
    assert set(EXIT_CODES) <= set(automations.FAILURES)


def test_a_run_that_stopped_answering_is_closed(api, prefect_api):
    automations.set_up(None, zombie_after=timedelta(seconds=10))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow(lambda: None, name="zombie"), state=Running())
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        "related": [],
        "payload": {},
    }
    prefect_calls.call(api, "/events", [event])
    while (state := prefect_api(f"/flow_runs/{run.id}")["state"])["type"] == "RUNNING":
        time.sleep(0.5)  # pytest's own timeout bounds the wait
    assert (state["type"], state["message"]) == ("CRASHED", "it stopped answering")
