"""Run one DVC stage as one Prefect task.

DVC decides whether a stage runs; Prefect shows it, repeats what is worth repeating and keeps the
log. There is no Prefect caching on top: two sources of truth would disagree one day.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from dualvla import redaction
from dualvla.errors import OutageError
from tasks import supervisor
from tasks.run import EXIT_CODES, Run
from tasks.session import Session

NAMES = {code: name for name, code in EXIT_CODES.items()}

RETRY_DELAYS = [2, 10, 30]  # seconds
UNCHANGED = ("didn't change, skipping", "is cached - skipping run")
# What DVC advises whoever typed the command; here it would stand under every stage.
HINTS = (
    "To track the changes with git",
    "git add dvc.lock",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
)
BUSY = ("Unable to acquire lock", "is busy", "has been locked", "Failed to acquire")
STAGE_EXIT = re.compile(r"exited with (-?\d+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # escape codes of terminals, noise in the UI
STAGE_ERROR = re.compile(r"^error: (.*)$")


class WorthRepeatingError(RuntimeError):
    """A busy lock or a killed process: the same command may work the next time."""


@dataclass
class Outcome:
    """What the lines of `dvc repro` say about a stage."""

    cached: bool = False
    busy: bool = False
    code: int | None = None  # the stage's own exit code, which dvc's hides
    error: str = ""
    tail: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take in one line."""
        self.cached |= any(mark in line for mark in UNCHANGED)
        self.busy |= any(mark in line for mark in BUSY)
        if found := STAGE_EXIT.search(line):
            self.code = int(found[1])
        if found := STAGE_ERROR.match(line):
            self.error = found[1]
        self.tail = [*self.tail[-19:], line]

    def killed(self) -> bool:
        """Whether the stage was ended by a signal, for example by the kernel for its memory."""
        return self.code is not None and (self.code < 0 or self.code > 128)


def worth_repeating(_task: Any, _run: Any, state: State) -> bool:
    """Whether a failed task is tried again: infrastructure only, never bad input or quality."""
    try:
        state.result(raise_on_failure=True)
    except (WorthRepeatingError, OutageError):
        return True
    except Exception:
        return False
    return False


REPEATED: dict[str, Any] = {
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_condition_fn": worth_repeating,
}


@task(
    name="stage",
    task_run_name="{stage}",
    cache_policy=NO_CACHE,  # DVC is the one who knows
    **REPEATED,
)
def run_stage(stage: str, run: Run) -> State:
    """Bring one stage up to date and say how that went as the task's final state.

    Args:
        stage: its name in dvc.yaml.
        run: which it is a part of.

    Returns:
        Completed, Cached, BadInput, DataQualityFailed or Failed.

    Raises:
        WorthRepeatingError: a lock was busy or the stage was killed.
    """
    if stage not in run.late:
        run.board.finish(stage)
        return Completed(name="Cached", message="unchanged")
    logger = get_run_logger()
    cost = run.costs[stage]
    logger.info(f"needs {cost} of {run.session.cores} cores")
    with run.session.using(cost):
        run.board.start(stage)
        logger.info(run.board.line())
        try:
            code, outcome = repro(run.addresses[stage], run.session, logger.info)
        finally:
            run.board.finish(stage)
    logger.info(run.board.line())
    return _final(code, outcome)


def repro(address: str, session: Session, show: Callable[[str], None]) -> tuple[int, Outcome]:
    """Run `dvc repro` for one stage alone; return its exit code and what its lines say."""
    # The lock is held while outputs are hashed, longer than DVC waits by default.
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-s", address]
    outcome = Outcome()

    def take(line: str) -> None:
        line = redaction.redact(COLOUR.sub("", line))
        outcome.read(line)
        if line.strip() and not any(hint in line for hint in HINTS):
            show(line)

    return session.run(command, take), outcome


def _final(code: int, outcome: Outcome) -> State:
    if code == 0:
        if outcome.cached:
            return Completed(name="Cached", message="unchanged, or restored from DVC's cache")
        return Completed()
    said = outcome.error or next((line for line in reversed(outcome.tail) if line.strip()), "")
    if any("No space left on device" in line for line in outcome.tail):
        return Failed(name=NAMES[2], message=f"disk full: {said} -> free some space")
    if outcome.code in NAMES:
        return Failed(name=NAMES[outcome.code], message=said)
    if outcome.busy or outcome.killed() or supervisor.killed(code):
        raise WorthRepeatingError(said)
    return Failed(message=said)
