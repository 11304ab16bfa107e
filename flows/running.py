"""What flows over a DVC pipeline share: every stage as one task, then push, publish, show.

The graph is DVC's; this only schedules it. Each stage is a thread that waits for a child process,
so there are as many threads as stages, and cores bound what runs side by side.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import httpx
from prefect import get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Failed

from dualvla import doctor, redaction, workspace
from dualvla.busy import WhenBusy
from dualvla.errors import UserError
from dualvla.stages.runner import DISK_FULL
from flows import watchdog
from tasks import artifacts, run, store
from tasks.run import Pipeline
from tasks.stage import run_stage

THREADS = 512  # more than any graph has stages
PATIENCE = 60.0  # seconds that a stopped flow may take to say so


def run_name() -> str:
    """Name of the flow run under way."""
    given = flow_run.parameters
    return run.name(workspace.plan(Path(given["root"]), given["profile"]))


def bring_up_to_date(
    pipeline: Pipeline, root: str, profile: str | None, when_busy: WhenBusy, checked: bool
) -> State:
    """Run every stage of a pipeline; push, publish and show the result if all are green.

    Args:
        pipeline: which.
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
        when_busy: wait while another run holds the folder, or refuse.
        checked: the preflight checks were made just now.
    """
    logger = get_run_logger()
    try:
        plan = workspace.plan(Path(root), profile)
        with contextlib.ExitStack() as during:
            during.enter_context(run.living(plan.folder, flow_run.id))
            if not checked:
                doctor.preflight(plan, waits=when_busy == "wait")
            night = during.enter_context(run.opened(plan, logger.info, pipeline, when_busy))
            during.enter_context(watchdog.watching(night.session))
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
        name = "BadInput" if error.exit_code == UserError.exit_code else None
        return Failed(name=name, message=redaction.redact(str(error)))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        what = f"{error.filename or root}: disk full -> free some space"
        return Failed(name="BadInput", message=what)
    except Exception:
        raise
    except BaseException:
        # Stopped by a signal. No stage is left, but Prefect may ask a dead server for minutes.
        leave = threading.Timer(PATIENCE, os._exit, [1])
        leave.daemon = True
        leave.start()
        raise
    return ending


def enter(chosen: Flow[Any, Any], about: str | None) -> None:
    """Run a flow from the command line and exit with 0, 2 bad input, 3 quality or 1."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{chosen.name}", description=about)
    parser.add_argument("--root", default=".", help="the project's folder")
    parser.add_argument("--profile", help="overlay of params/")
    parser.add_argument(
        "--when-busy", choices=get_args(WhenBusy), default="refuse", help="in a folder that is held"
    )
    parser.add_argument("--cron", help="do not run now, but serve a deployment with this schedule")
    parser.add_argument("--checked", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--validate", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not Path(given.root).is_dir():
        parser.error(f"no folder {given.root}")
    if given.cron and chosen.name != run.RETRAIN.name:
        parser.error("--cron is of flows.retrain; prefect.yaml schedules the others")
    if given.cron:
        try:
            CronSchedule(cron=given.cron)
        except ValueError:
            parser.exit(2, f'error: --cron: no such time: {given.cron!r} -> such as "0 2 * * *"\n')
    if given.validate:  # `dualvla schedule` asks before it starts servers
        return
    if not given.checked:
        # The command line checks the machine and starts the servers, then comes back here.
        busy = ["--when-busy", given.when_busy]
        command = ["schedule", "--cron", given.cron] if given.cron else [chosen.name, *busy]
        command += ["--profile", given.profile] if given.profile else []
        os.chdir(given.root)
        os.execv(sys.executable, [sys.executable, "-m", "dualvla.cli", *command])
    # A shell's background jobs ignore SIGINT, and a run must end by it all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plan = workspace.plan(Path(given.root), given.profile)
    parameters = {"root": str(plan.root), "profile": given.profile, "when_busy": given.when_busy}
    if given.cron:
        chosen.serve(
            name=plan.profile, cron=given.cron, parameters=parameters, tags=run.tags(plan), limit=1
        )
        return
    try:
        with tags(*run.tags(plan)):
            state = chosen(**parameters, checked=True, return_state=True)
    except Exception as error:
        if not _lost_prefect(error):
            raise
        watchdog.give_up()
    if not state.is_completed():
        sys.stderr.write(f"error: {state.message}\n")
    sys.exit(run.exit_code(state))


def _lost_prefect(error: BaseException | None) -> bool:
    """Whether an error began with a Prefect server that stopped answering."""
    while error is not None:
        if isinstance(error, httpx.TransportError):
            return True
        error = error.__cause__ or error.__context__
    return False
