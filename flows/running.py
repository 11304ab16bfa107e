"""What flows over a DVC pipeline share: every stage as one task, then push, publish, show.

The graph is DVC's; this only schedules it. Each stage is a thread that waits for a child process,
so there are as many threads as stages, and cores bound what runs side by side.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from prefect import get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Failed

from dualvla import doctor, redaction, workspace
from dualvla.errors import UserError
from tasks import artifacts, run, store
from tasks.run import Pipeline
from tasks.stage import run_stage

THREADS = 512  # more than any graph has stages


def run_name() -> str:
    """Name of the flow run under way."""
    given = flow_run.parameters
    return run.name(workspace.plan(Path(given["root"]), given["profile"]))


def bring_up_to_date(pipeline: Pipeline, root: str, profile: str | None, checked: bool) -> State:
    """Run every stage of a pipeline; push, publish and show the result if all are green.

    Args:
        pipeline: which.
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
        checked: the preflight checks were made just now.
    """
    logger = get_run_logger()
    try:
        plan = workspace.plan(Path(root), profile)
        if not checked:
            doctor.preflight(plan)
        with run.opened(plan, flow_run.id, logger.info, pipeline) as night:
            futures: dict[str, PrefectFuture[State]] = {}
            for stage, upstreams in night.graph.items():
                before = [futures[name] for name in upstreams]
                futures[stage] = run_stage.submit(stage, night, wait_for=before)
            for future in futures.values():
                future.wait()
            ending = run.ending({stage: future.state for stage, future in futures.items()})
            if ending.is_completed():
                store.push(night)
                version = store.publish(night)
                artifacts.show(night, version)
            elif ending.name == "DataQualityFailed":
                artifacts.failed_gates(night.folder)
    except UserError as error:
        return Failed(name="BadInput", message=redaction.redact(str(error)))
    return ending


def enter(chosen: Flow[Any, Any], about: str | None) -> None:
    """Run a flow from the command line and exit with 0, 2 bad input, 3 quality or 1."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{chosen.name}", description=about)
    parser.add_argument("--root", default=".", help="the project's folder")
    parser.add_argument("--profile", help="overlay of params/")
    parser.add_argument("--cron", help="do not run now, but serve a deployment with this schedule")
    parser.add_argument("--checked", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.checked:
        # The command line checks the machine and starts the servers, then comes back here.
        command = ["schedule", "--cron", given.cron] if given.cron else [chosen.name]
        command += ["--profile", given.profile] if given.profile else []
        os.chdir(given.root)
        os.execv(sys.executable, [sys.executable, "-m", "dualvla.cli", *command])
    plan = workspace.plan(Path(given.root), given.profile)
    parameters = {"root": str(plan.root), "profile": given.profile}
    if given.cron:
        chosen.serve(
            name=plan.profile, cron=given.cron, parameters=parameters, tags=run.tags(plan), limit=1
        )
        return
    with tags(*run.tags(plan)):
        state = chosen(**parameters, checked=True, return_state=True)
    if not state.is_completed():
        sys.stderr.write(f"error: {state.message}\n")
    sys.exit(run.exit_code(state))
