"""`dualvla serve`: a policy for robots and for other people's harnesses."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualvla.errors import UserError

NAMES = "expert, random or a checkpoint's folder"


def serve(
    policy: Annotated[str, typer.Argument(metavar="CHECKPOINT|expert|random", help=NAMES)],
    *,
    host: Annotated[
        str, typer.Option(help="address to bind to; beyond loopback DUALVLA_SERVE_TOKEN is needed")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8000,
    actions: Annotated[
        int | None, typer.Option(min=1, help="of a checkpoint's chunk in an answer; default: all")
    ] = None,
    reason: Annotated[str, typer.Option(help="auto, always, never or every_n")] = "auto",
    reason_every: Annotated[int, typer.Option(min=1, help="decisions, for every_n")] = 4,
    assets: Annotated[
        str, typer.Option(help="pack whose shapes the expert knows: generated or official")
    ] = "generated",
    seed: Annotated[int, typer.Option(min=0, help="of a checkpoint's random choices")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of a checkpoint")] = 1,
) -> None:
    """Serve a policy over openpi's websocket interface until Ctrl-C or SIGTERM.

    It prints its address once it answers; GET /healthz says whether it does. docs/serving.md has
    the messages.

    Example: dualvla serve models/dualvla --port 8000

    For others: DUALVLA_SERVE_TOKEN=$(openssl rand -hex 32) dualvla serve expert --host 0.0.0.0
    """
    from dualvla.serving import access, server

    # Before a model is loaded in vain.
    access.require_safe(host, access.token())
    if policy.startswith(("ws://", "wss://")):
        raise UserError("a policy of another server", where=policy, fix=NAMES)
    if assets not in ("generated", "official"):
        raise UserError(f"no such asset pack: {assets}", fix="generated or official")
    if reason not in ("auto", "always", "never", "every_n"):
        raise UserError(f"no such way of reasoning: {reason}", fix="auto, always, never or every_n")

    from dualvla.evaluation import policies

    if Path(policy).is_dir():
        import torch

        torch.set_num_threads(threads)
    opened = policies.open_policy(
        policy,
        assets=assets,  # type: ignore[arg-type]
        seed=seed,
        actions=actions,
        reason=reason,  # type: ignore[arg-type]
        reason_every=reason_every,
    )
    facts = _facts(Path(policy).resolve().name, opened, seed)
    server.serve(opened.policy, facts, host, port, ready=_announce)


def _facts(name: str, opened: Any, seed: int) -> Any:
    """What clients are told of an opened policy."""
    from dualvla.serving import messages
    from dualvla.serving.messages import CONTROLLER, PRIVILEGED, PROMPT, STATE

    requires = {
        "expert": (STATE, CONTROLLER, PRIVILEGED, PROMPT),
        "random": (STATE, PROMPT),
        "checkpoint": messages.PLAIN,
    }
    policy, learnt = opened.policy, opened.kind == "checkpoint"
    chunk = policy.model.config.shape.chunk if learnt else getattr(policy, "chunk", 1)
    return messages.Facts(
        policy=name,
        checkpoint=opened.fingerprint,
        convention=policy.convention,
        requires=requires[opened.kind],
        accepts=(CONTROLLER,) if learnt else (),
        chunk=chunk,
        action_horizon=(policy.settings.execute if learnt else None) or chunk,
        reason=opened.reason,
        seed=seed,
    )


def _announce(url: str) -> None:
    from dualvla import progress

    progress.log(f"{url}  (Ctrl-C ends it)")
