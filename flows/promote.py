"""Promote: a candidate becomes production if it is not worse, and if a person agrees.

The run pauses in the UI with the decision's table beside it. Whoever resumes it answers a form; the
answer is stored with the decision. Rollback is a flow too, so that it can be pressed in the UI.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Failed
from pydantic import Field

from dualvla import redaction, workspace
from dualvla.errors import UserError
from dualvla.promotion import page, proposals
from dualvla.store import aliases, client, registry
from tasks import run

PATIENCE = 3 * 24 * 3600  # seconds a person has to answer
KEY = "promotion"  # of the artifact


class Approval(RunInput):
    """What a person says to a decision."""

    approved: bool = Field(False, description="whether the candidate becomes production")
    who: str = Field("", description="your name, kept in the decision")
    why: str = Field("", description="reasons, kept in the decision")


@flow(name="promote", flow_run_name="promote-{model}-{version}")
def promote(
    model: str,
    version: str = "candidate",
    approve: bool = False,
    root: str = ".",
    profile: str | None = None,
) -> State:
    """Decide about a version from published results and move `production` if it is accepted.

    Args:
        model: such as dualvla.
        version: a name, its first digits or an alias.
        approve: pause until a person agrees in the UI.
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
    """
    try:
        plan = workspace.plan(Path(root), profile)
        where = client.place(plan.params.store, plan.root)
        client.check(where, create=where.local)
        proposal = proposals.propose(where, model, version, plan.params.promotion)
        create_markdown_artifact(page.markdown(proposal.decision), key=KEY)
        asked = approve and proposal.decision["accepted"]
        approval = _ask(proposal.decision) if asked else None
        moved = proposals.carry_out(where, proposal, plan.root, approval=approval)
    except aliases.MovedError as error:
        return Failed(message=redaction.redact(str(error)))
    except UserError as error:
        return Failed(name="BadInput", message=redaction.redact(str(error)))
    candidate = f"{model} {proposal.decision['candidate']}"
    if moved is None:
        said = "a person said no" if asked else "it is not shown to be as good"
        return Failed(name="Refused", message=f"{candidate} stays candidate: {said}")
    return Completed(message=f"production is {candidate}")


@flow(name="rollback", flow_run_name="rollback-{model}")
def rollback(
    model: str, to: str | None = None, why: str = "", root: str = ".", profile: str | None = None
) -> State:
    """Return `production` to the version before the last promotion, or to one it had before.

    Args:
        model: such as dualvla.
        to: a version that was production before; None is the one before the last promotion.
        why: kept in the alias's history.
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
    """
    try:
        plan = workspace.plan(Path(root), profile)
        where = client.place(plan.params.store, plan.root)
        client.check(where, create=where.local)
        target = registry.resolve(where, model, to) if to else None
        now = aliases.rollback(where, model, to=target, why=why)
    except aliases.MovedError as error:
        return Failed(message=redaction.redact(str(error)))
    except UserError as error:
        return Failed(name="BadInput", message=redaction.redact(str(error)))
    return Completed(message=f"production of {model} is {now.version} again")


def _ask(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Wait for a person; no answer in time is a no."""
    get_run_logger().info("waits for approval: press Resume in the UI")
    form = Approval.with_initial_data(description=page.markdown(decision))
    try:
        answer = pause_flow_run(wait_for_input=form, timeout=PATIENCE, key="approval")
    except FlowPauseTimeout:
        return {"approved": False, "who": "nobody", "why": "no answer in time"}
    return {"approved": answer.approved, "who": answer.who or "somebody", "why": answer.why}


def main() -> None:
    """Run the flow from the command line; exit with 0, 2 bad input, 3 refused or 1."""
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description=__doc__)
    parser.add_argument("--root", default=".", help="the project's folder")
    parser.add_argument("--profile", help="overlay of params/")
    parser.add_argument("--model", required=True, help="such as dualvla")
    parser.add_argument("--version", default="candidate", help="a name or an alias")
    parser.add_argument("--approve", action="store_true", help="pause until a person agrees")
    given = parser.parse_args()
    state = promote(**vars(given), return_state=True)
    if not state.is_completed():
        sys.stderr.write(f"error: {state.message}\n")
    sys.exit(3 if state.name == "Refused" else run.exit_code(state))


if __name__ == "__main__":
    main()
