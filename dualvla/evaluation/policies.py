"""What may be evaluated, named by one word: the expert, chance, a checkpoint, or a server.

Every one is an `interface.Policy` with a fingerprint: results of a folder of weights that was
trained anew under the same name must not be taken for the old one's. A server's fingerprint is what
it says of itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvla import config, files
from dualvla.errors import UserError
from dualvla.interface import Policy
from dualvla.simulation.environments import Pack


@dataclass(frozen=True, eq=False)
class Opened:
    """A policy and what its results say of it."""

    policy: Policy
    kind: str  # expert, random, checkpoint or remote
    fingerprint: str  # SHA-256 of a checkpoint; what a server says; else the kind
    reason: str  # config.Reason; `never` for what has no words

    def to_json(self) -> dict[str, Any]:
        """Plain data for results; the same wherever the checkpoint lies."""
        return {"kind": self.kind, "fingerprint": self.fingerprint}


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
    from dualvla.evaluation.acting import ModelPolicy, Settings

    policy = ModelPolicy(Path(spec), Settings(actions, reason, reason_every), seed)
    spoken = reason if policy.model.config.reasons else "never"
    return Opened(policy, "checkpoint", files.sha256(Path(spec)), spoken)
