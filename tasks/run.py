"""One run: what its stages share, what comes before them and how it ends."""

import contextlib
import fcntl
import hashlib
import os
import socket
import subprocess
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Completed, Crashed, Failed

from dualvla import ingestion, paths, workspace
from dualvla.busy import WhenBusy
from dualvla.config import Params
from dualvla.store import client
from dualvla.store.client import Place
from dualvla.workspace import Workspace
from tasks import graph
from tasks.board import Board, earlier_seconds
from tasks.graph import Upstreams
from tasks.session import Session, end_orphans

# Stages that simulate, without their `@item`.
SIMULATING = {"demonstrations", "multimodal", "evaluate", "evaluate_specialist"}
LIVING = Path(".dualvla/runs")  # a file for each flow run of a folder, locked while it lives
OWN = (":!dvc.lock", ":!ablation/dvc.lock", ":!incoming/manifest.json")  # files a run writes
REPORT_EVERY = 30.0  # seconds between two lines about progress
EXIT_CODES = {"BadInput": 2, "DataQualityFailed": 3}  # as in dualvla.errors


@dataclass(frozen=True)
class Pipeline:
    """A DVC file, and what a flow over it leaves behind."""

    name: str  # of the flow and of its published versions
    file: str
    report: Path  # folder of summary.json, report.md and plots/
    page: str  # the report's page, in that folder
    models: bool  # whether the evaluated models go to the registry

    @property
    def lock(self) -> str:
        """DVC's record of the file's stages."""
        return str(Path(self.file).with_suffix(".lock"))


RETRAIN = Pipeline("retrain", graph.MAIN, paths.REPORT, "index.html", models=True)
ABLATE = Pipeline(
    "ablate",
    str(paths.ABLATION / graph.MAIN),
    paths.ABLATION / paths.REPORT,
    "page.html",
    models=False,  # there are dozens; DVC's remote has them
)


class Run:
    """A plan, its graph and the processes it becomes."""

    def __init__(self, plan: Workspace, where: Place, pipeline: Pipeline) -> None:
        """Read the graph and its state; `plan` is written, `where` was checked."""
        self.plan, self.where, self.folder, self.pipeline = plan, where, plan.folder, pipeline
        self.graph: Upstreams = graph.read(plan.folder, pipeline.file)
        self.addresses = graph.addresses(plan.folder, pipeline.file, self.graph)
        self.late = graph.changed(plan.folder, self.graph, pipeline.file)
        cores = os.cpu_count() or 1
        self.costs = {name: cost(name, plan.params) for name in self.graph}
        self.board = Board(self.graph, self.costs, cores, earlier_seconds(plan.folder))
        self.session = Session(plan.folder, workspace.environment(plan), cores)


@contextlib.contextmanager
def opened(
    plan: Workspace,
    show: Callable[[str], None],
    pipeline: Pipeline,
    when_busy: WhenBusy = "refuse",
) -> Iterator[Run]:
    """Prepare a run, tell its progress through `show` while it lasts, leave no process behind.

    Args:
        plan: where it runs; written here.
        show: takes a line.
        pipeline: what runs.
        when_busy: wait while another run holds the folder, or refuse.

    Raises:
        UserError: another run holds the folder, or S3 does not answer.
    """
    where = client.place(plan.params.store, plan.root)
    client.check(where, create=where.local)
    wait = show if when_busy == "wait" else None
    with workspace.exclusive(plan.folder, wait):
        if orphans := end_orphans(plan.folder):
            show(f"ended {orphans} processes that a killed run left behind")
        if zombies := close_zombies(plan):
            show(f"closed {zombies} runs that were killed")
        workspace.write(plan, client.remote_config(where, plan.root))
        if plan.params.demonstrations.source == "incoming":
            # Only here, under the folder's lock: a stage under way must not see it change.
            count = ingestion.take_up(where, plan.folder)
            show(f"{count} shards were ingested so far")
        run = Run(plan, where, pipeline)
        for name, reasons in run.late.items():
            show(textwrap.shorten(f"{name} is out of date: {'; '.join(reasons)}", 200))
        for name in run.graph.keys() - run.late.keys():
            run.board.finish(name)
        if run.late:
            show(f"estimate from earlier runs: {run.board.line()}")
        with _talking(run.board, show if run.late else None):
            try:
                yield run
            finally:
                # Whatever ends the run, a signal too: its children end first.
                run.session.stop()


def cost(stage: str, params: Params) -> int:
    """How many cores a stage holds.

    A simulating stage holds one less than it has workers: on few cores it would else wait for the
    long training stages, and two stages that share a core end earlier than two that take turns.
    """
    simulates = stage.split("@", maxsplit=1)[0] in SIMULATING
    return max(1, params.simulation.workers - 1) if simulates else params.threads


def ending(states: Mapping[str, State]) -> State:
    """State of the whole run from those of its stages: the first that went wrong names it."""
    left = {stage: state for stage, state in states.items() if not state.is_completed()}
    if not left:
        cached = sum(state.name == "Cached" for state in states.values())
        return Completed(message=f"{len(states) - cached} stages ran, {cached} were cached")
    failed = [stage for stage, state in left.items() if state.is_failed() or state.is_crashed()]
    first = next(iter(failed or left))
    return Failed(name=states[first].name or "Failed", message=f"{first}: {states[first].message}")


def exit_code(state: State) -> int:
    """Of the process: 0 green, 2 bad input, 3 quality, 1 any other failure."""
    return 0 if state.is_completed() else EXIT_CODES.get(state.name or "", 1)


def commit(root: Path) -> str:
    """Short hash of the tree's commit, `-dirty` if files differ, `nogit` without git.

    What a run itself writes into the tree does not count: it is published with the run.
    """
    git = ["git", "-C", str(root)]
    head = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode:
        return "nogit"
    changes = subprocess.run(
        [*git, "status", "--porcelain", "--", ".", *OWN],
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def name(plan: Workspace) -> str:
    """Name of the run in the UI."""
    return f"{plan.profile}-{commit(plan.root)}"


def tags(plan: Workspace) -> list[str]:
    """Tags of the run: its profile, and one that names this folder on this machine."""
    return [plan.profile, place_tag(plan)]


def place_tag(plan: Workspace) -> str:
    """A tag that only runs in this folder on this machine carry."""
    where = f"{socket.gethostname()}:{plan.folder}"
    return f"place-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def close_zombies(plan: Workspace) -> int:
    """Mark runs of this folder that were killed as crashed; return how many.

    Those that wait for the folder, and the one that calls it, hold their files.
    """
    alive = FlowRunFilterStateType(any_=[StateType.RUNNING])
    here = FlowRunFilter(
        state=FlowRunFilterState(type=alive), tags=FlowRunFilterTags(all_=[place_tag(plan)])
    )
    with get_client(sync_client=True) as api:
        found = api.read_flow_runs(flow_run_filter=here)
        zombies = [one for one in found if not _lives(plan.folder, one.id)]
        for zombie in zombies:
            api.set_flow_run_state(zombie.id, Crashed(message="it was killed"), force=True)
    return len(zombies)


@contextlib.contextmanager
def living(folder: Path, own: UUID | str | None) -> Iterator[None]:
    """Show the folder's other runs that this one lives; first of all, or they close it."""
    path = folder / LIVING / str(own)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lives(folder: Path, run: UUID) -> bool:
    path = folder / LIVING / str(run)
    try:
        with path.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    path.unlink(missing_ok=True)  # of a killed run
    return False


@contextlib.contextmanager
def _talking(board: Board, show: Callable[[str], None] | None) -> Iterator[None]:
    """Show the board's line now and then from a thread."""
    ended = threading.Event()

    def talk() -> None:
        while show is not None and not ended.wait(REPORT_EVERY):
            show(board.line())

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
