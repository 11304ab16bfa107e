"""What may be evaluated, named by one word: the expert, chance, a checkpoint, or a server."""

from pathlib import Path

from dualvla import config
from dualvla.errors import UserError
from dualvla.evaluation import opened
from dualvla.evaluation.opened import Opened
from dualvla.simulation.environments import Pack


def open_policy(
    spec: str,
    *,
    assets: Pack,
    seed: int,
    actions: int | None,
    reason: config.Reason = "auto",
    reason_every: int = 4,
) -> Opened:
    """Open `expert`, `random`, a checkpoint's folder or `ws://HOST:PORT`.

    Args:
        spec: which.
        assets: pack whose shapes the expert knows.
        seed: of a checkpoint's flow noise.
        actions: of a checkpoint's chunk, returned at each decision; None: all of them.
        reason: when a checkpoint writes text.
        reason_every: decisions between two texts, for `every_n`.

    Raises:
        UserError: no such folder, no checkpoint, or a server that does not answer.
    """
    if spec == "expert":
        from dualvla.simulation.expert import Expert

        return Opened(Expert(assets), "expert", "expert", "never")
    if spec == "random":
        from dualvla.simulation.random_policy import RandomPolicy

        return Opened(RandomPolicy(), "random", "random", "never")
    if spec.startswith(("ws://", "wss://")):
        from dualvla.serving.client import RemotePolicy

        remote = RemotePolicy(spec)
        return Opened(remote, "remote", remote.fingerprint, remote.reason)
    if not (Path(spec) / "config.json").is_file():
        fix = "expert, random, the folder of a checkpoint, or ws://HOST:PORT"
        raise UserError(f"no such policy: {spec}", fix=fix)
    return opened.checkpoint(
        Path(spec), seed, actions=actions, reason=reason, reason_every=reason_every
    )
