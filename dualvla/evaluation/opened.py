"""A policy that is about to be evaluated, and what its results will say of it.

A fingerprint goes with it: results of a folder of weights that was trained anew under the same name
must not be taken for the old one's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualvla import files
from dualvla.evaluation.acting import ModelPolicy, Settings
from dualvla.interface import Policy


@dataclass(frozen=True, eq=False)
class Opened:
    """A policy and what its results say of it."""

    policy: Policy
    kind: Literal["expert", "random", "checkpoint", "remote"]
    fingerprint: str  # SHA-256 of a checkpoint; what a server says; else the kind
    reason: str  # config.Reason; `never` for what has no words

    def to_json(self) -> dict[str, Any]:
        """Plain data for results; the same wherever the checkpoint lies."""
        return {"kind": self.kind, "fingerprint": self.fingerprint}


def checkpoint(path: Path, settings: Settings, seed: int) -> Opened:
    """Open a model's folder; a `UserError` if it holds none, or predicts fewer actions."""
    policy = ModelPolicy(path, settings, seed)
    reason = settings.reason if policy.model.config.reasons else "never"
    return Opened(policy, "checkpoint", files.sha256(path), reason)
