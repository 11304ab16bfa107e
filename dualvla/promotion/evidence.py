"""What the published files of a version say about it, and whether two versions were measured alike.

Read from the registry alone, each file compared with its sum: a decision can be made again
anywhere, long after the run. The price is that whatever a decision needs must have been published.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualvla.errors import UserError
from dualvla.store import registry, versions
from dualvla.store.client import Place

if TYPE_CHECKING:
    import pandas as pd

# What two evaluations must share for their episodes to be pairs; `protocol` has its hash.
CONDITION = ("assets", "success_mode", "seed", "execute", "protocol")
# And their scores; of a judge that is a model, all that decides what it answers.
SCORING = ("judge", "scale", "success_mode")
JUDGE = ("model", "host", "rubric", "frames", "repeats", "examples", "knowledge")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the published files of a version say about it."""

    version: str
    evaluation: Mapping[str, Any]
    episodes: "pd.DataFrame"
    answers: "pd.DataFrame"
    scoring: Mapping[str, Any]
    scores: "pd.DataFrame"
    gates: list[Mapping[str, Any]]
    canary: Mapping[str, Any] | None


def published(where: Place, model: str, version: str) -> Evidence:
    """Read what a decision needs from a published version, every file compared with its sum.

    Raises:
        UserError: no such version, a file is missing or damaged, or the results are of other
            weights than the version's.
    """
    prefix = f"{registry.ROOT}/{model}/{version}"
    manifest = versions.require(where, prefix)
    found = gather(version, manifest, lambda name: versions.read(where, prefix, manifest, name))
    measured = found.evaluation.get("policy", {}).get("fingerprint")
    if measured is not None and measured != registry.fingerprint(manifest):
        what = "the evaluation is of other weights than the version's"
        raise UserError(what, where=prefix, fix="evaluate the model anew and publish it")
    return found


def gather(version: str, manifest: Mapping[str, Any], read: Callable[[str], bytes]) -> Evidence:
    """Evidence from a version's manifest and its files, which `read` reads."""
    import pandas as pd

    def table(name: str) -> "pd.DataFrame":
        return pd.read_parquet(io.BytesIO(read(name)))

    return Evidence(
        version,
        json.loads(read("evaluate/summary.json")),
        table("evaluate/results.parquet"),
        table("benchmark/answers.parquet"),
        json.loads(read("score/summary.json")),
        table("score/scores.parquet"),
        manifest["about"]["quality"],
        manifest["about"].get("canary"),
    )


def unlike(one: Evidence, other: Evidence) -> str | None:
    """What keeps two versions from being compared; None if nothing does."""
    for stage, mine, theirs, keys in (
        ("evaluate", one.evaluation, other.evaluation, CONDITION),
        ("score", one.scoring, other.scoring, SCORING),
    ):
        for key in keys:
            if mine.get(key) != theirs.get(key):
                return f"{stage}: {key} is {mine.get(key)!r}, for production {theirs.get(key)!r}"
    mine, theirs = (side.scoring.get("llm", {}) for side in (one, other))
    for key in JUDGE:
        if mine.get(key) != theirs.get(key):
            return f"judge: {key} is {mine.get(key)!r}, for production {theirs.get(key)!r}"
    return None
