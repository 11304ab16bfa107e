"""A policy that is about to be evaluated, and what its results will say of it.

A fingerprint goes with it: results of a folder of weights that was trained anew under the same name
must not be taken for the old one's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualvla import config, files
from dualvla.interface import Policy


@dataclass(frozen=True, eq=False)
class Opened:
    """A policy and what its results say of it."""

    policy: Policy
    kind: Literal["expert", "random", "checkpoint", "remote"]
    fingerprint: str  # SHA-256 of a checkpoint; what a server says; else the kind
    reason: str  # config.Reason, with its number: every_4; `never` for what has no words

    def to_json(self) -> dict[str, Any]:
        """Plain data for results; the same wherever the checkpoint lies."""
        return {"kind": self.kind, "fingerprint": self.fingerprint}


def checkpoint(
    path: Path, seed: int, *, actions: int | None, reason: config.Reason, reason_every: int
) -> Opened:
    """Open a model's folder.

    Args:
        path: of the model.
        seed: of its flow noise.
        actions: of a chunk, returned at each decision; None: all of them.
        reason: when it writes text.
        reason_every: decisions between two texts, for `every_n`.

    Raises:
        UserError: the folder holds no model, or one that predicts fewer actions.
    """
    from dualvla.evaluation.acting import ModelPolicy, Settings  # torch, which others do without

    policy = ModelPolicy(path, Settings(actions, reason, reason_every), seed)
    spoken = f"every_{reason_every}" if reason == "every_n" else reason
    spoken = spoken if policy.model.config.reasons else "never"
    return Opened(policy, "checkpoint", files.sha256(path), spoken)
