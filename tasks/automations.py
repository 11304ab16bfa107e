"""What the Prefect server does by itself: pools, slots of GPUs, and what happens when a run fails.

All of it is data of the server, not of the flows, so that runs of any worker share it. Setting it
up twice changes nothing: each thing is found by its name and brought to what is written here.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from dualvla.deployment import POOLS, WEBHOOK
from tasks.run import EXIT_CODES

NOTIFY = "dualvla: tell of failed runs"
ZOMBIES = "dualvla: close runs that stopped answering"
BLOCK = "dualvla-failures"
# A run says every three minutes that it lives; one message may be lost.
ZOMBIE_AFTER = timedelta(minutes=10)
# Events are called by the names of states, of which the flows have their own.
FAILURES = ("Failed", "Crashed", "TimedOut", *EXIT_CODES)
ENDINGS = ("Completed", "Cancelled", "Cached", "Refused", *FAILURES)
RUN = {"prefect.resource.id": "prefect.flow-run.*"}
MESSAGE = {
    "text": "{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}",
    "message": "{{ flow_run.state.message }}",
    "url": "{{ flow_run|ui_url }}",
}


def set_up(
    webhook: str | None = None, slots: int = 1, zombie_after: timedelta = ZOMBIE_AFTER
) -> list[str]:
    """Make pools, limits and automations what they should be; return a line about each.

    Args:
        webhook: address that is told of failed runs, a secret; None leaves it as it is.
        slots: how many runs may hold the GPUs of the pool `gpu` at a time.
        zombie_after: silence after which a run counts as killed.
    """
    lines = []
    with get_client(sync_client=True) as api:
        for pool, about in POOLS.items():
            limit = slots if pool == "gpu" else None
            _pool(api, pool, about, limit)
            lines.append(f"pool {pool}" + (f", {limit} runs at a time" if limit else ""))
        _automation(api, zombies(zombie_after))
        lines.append(f"automation {ZOMBIES!r}, after {zombie_after.total_seconds():.0f} s")
        if webhook:
            block = Webhook(url=webhook)
            block.save(BLOCK, overwrite=True)
            _automation(api, notification(block))
            lines.append(f"automation {NOTIFY!r}")
        elif not api.read_automations_by_name(NOTIFY):
            lines.append(f"nobody is told of failed runs: set {WEBHOOK}")
    return lines


def zombies(after: timedelta) -> AutomationCore:
    """A run that was alive and neither ended nor spoke for a while is marked as crashed."""
    alive = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=ZOMBIES,
        description="Its process was killed, or its machine is gone. Starting it again goes on.",
        trigger=EventTrigger(
            match=RUN,
            for_each={"prefect.resource.id"},
            after={alive},
            expect={alive, *_events(ENDINGS)},
            posture=Posture.Proactive,
            threshold=1,
            within=after,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message="it stopped answering"),
        ],
    )


def notification(block: Webhook) -> AutomationCore:
    """A run that ended otherwise than well is told to a webhook."""
    fields = (f"{json.dumps(key)}: {_quoted(template)}" for key, template in MESSAGE.items())
    return AutomationCore(
        name=NOTIFY,
        description=f"Calls the block {BLOCK}.",
        trigger=EventTrigger(
            match=RUN,
            for_each={"prefect.resource.id"},
            expect=set(_events(FAILURES)),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            CallWebhook(
                block_document_id=block._block_document_id, payload=f"{{{', '.join(fields)}}}"
            )
        ],
    )


def _quoted(template: str) -> str:
    """A template whose result is a JSON string, whatever a message holds."""
    return f"{{% set text %}}{template}{{% endset %}}{{{{ text|string|tojson }}}}"


def _events(states: Iterable[str]) -> list[str]:
    return [f"prefect.flow-run.{state}" for state in states]


def _pool(api: SyncPrefectClient, name: str, about: str, limit: int | None) -> None:
    # A limit that nobody asked for here may have been set in the UI.
    wanted = {"description": about} | ({"concurrency_limit": limit} if limit else {})
    try:
        found = api.read_work_pool(name)
    except ObjectNotFound:
        api.create_work_pool(WorkPoolCreate(name=name, type="process", **wanted))
        return
    if any(getattr(found, key) != value for key, value in wanted.items()):
        api.update_work_pool(name, WorkPoolUpdate(**wanted))


def _automation(api: SyncPrefectClient, wanted: AutomationCore) -> None:
    found = api.read_automations_by_name(wanted.name)
    if not found:
        api.create_automation(wanted)
    elif _content(found[0]) != _content(wanted):
        api.update_automation(found[0].id, wanted)
    for doubled in found[1:]:
        api.delete_automation(doubled.id)


def _content(automation: AutomationCore | Automation) -> Any:
    # Sets stay sets: as lists, the same events would differ by their order.
    return automation.model_dump(include=set(AutomationCore.model_fields))


def main(show: Callable[[str], None] = print) -> None:
    """Set up the server that `PREFECT_API_URL` names."""
    parser = argparse.ArgumentParser(prog="python -m tasks.automations", description=__doc__)
    parser.add_argument("--slots", type=int, default=1, help="runs that hold the GPUs at a time")
    given = parser.parse_args()
    for line in set_up(os.environ.get(WEBHOOK), given.slots):
        show(line)


if __name__ == "__main__":
    main()
