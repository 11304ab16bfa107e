"""Whether a candidate may become production: decided from published results alone.

A candidate must not lose: on the same starts, questions and trajectories as the incumbent, the
interval of the paired difference lies above minus a margin. That is a test of non-inferiority: too
few episodes cannot show it, so they refuse a candidate instead of waving it through. A candidate
that is shown to be worse is refused even within the margin, or small losses would add up night by
night. An episode of the candidate that ended in an error counts as lost here (and here only),
because whatever breaks on a hard start must not be promoted for it.

The decision is plain data, the same for the same two versions. It is stored beside the versions
before the alias moves; the alias's history names it.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualvla import files
from dualvla.config import Promotion
from dualvla.errors import UserError
from dualvla.store import aliases, client, registry, versions
from dualvla.store.aliases import Alias
from dualvla.store.client import Place

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SCHEMA = 1
DECISIONS = Path(".dualvla/decisions")  # local copies, by model
# What two evaluations must share for their episodes to be pairs; `protocol` has its hash.
CONDITION = ("assets", "success_mode", "seed", "execute", "protocol")
SCORING = ("judge", "scale", "success_mode")

Row = dict[str, Any]


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


@dataclass(frozen=True, eq=False)
class Proposal:
    """A decision, and where production was when it was made."""

    decision: Row
    production: Alias


def propose(where: Place, model: str, wanted: str, settings: Promotion) -> Proposal:
    """Decide whether a version may become production; nothing is written.

    Args:
        where: the bucket.
        model: whose alias.
        wanted: the candidate: a version, its beginning or an alias.
        settings: margins and rules.

    Raises:
        UserError: no such version, it is production already, or the two were not measured alike.
    """
    production = aliases.read(where, model, "production")
    version = registry.resolve(where, model, wanted)
    if version == production.version:
        raise UserError(f"{version} is production already", where=f"{registry.ROOT}/{model}")
    candidate = evidence(where, model, version)
    incumbent = _incumbent(where, model, production.version, candidate)
    return Proposal(decide(model, candidate, incumbent, settings), production)


def carry_out(
    where: Place,
    proposal: Proposal,
    root: Path,
    *,
    who: str | None = None,
    approval: Row | None = None,
) -> Alias | None:
    """Store a decision, and move `production` if it was accepted; None if it was refused.

    Args:
        where: the bucket.
        proposal: from `propose`.
        root: the project's folder, which gets a copy.
        who: decides; the user's login if not given.
        approval: a person's: `approved`, `who`, `why`; None where nobody was asked.

    Raises:
        MovedError: another promotion was faster; the decision is stored, the alias not moved.
    """
    decision, who = proposal.decision, who or aliases.person()
    accepted = decision["accepted"] and (approval is None or approval["approved"])
    now = datetime.now(UTC)
    record = decision | {
        "who": who,
        "when": now.isoformat(timespec="seconds"),
        "approval": approval,
        "promote": accepted,
    }
    model, version = decision["model"], decision["candidate"]
    name = f"{model}/decisions/{now:%Y%m%dT%H%M%S.%fZ}-{version}"
    text, s3 = markdown(record), client.connect(where)
    local = root / DECISIONS / model / Path(name).name
    files.write_json(local.with_name(f"{local.name}.json"), record)
    files.write_text(local.with_name(f"{local.name}.md"), text)
    key = f"{registry.ROOT}/{name}"
    versions.put_json(s3, where, f"{key}.json", record)
    s3.put_object(
        Bucket=where.bucket,
        Key=f"{key}.md",
        Body=text.encode(),
        ContentType="text/markdown",
        **where.options,
    )
    if not accepted:
        return None
    return aliases.move(
        where, proposal.production, version, action="promote", who=who, why=f"{key}.json"
    )


def evidence(where: Place, model: str, version: str) -> Evidence:
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


def decide(model: str, candidate: Evidence, incumbent: Evidence | None, settings: Promotion) -> Row:
    """The decision as plain data: `accepted`, `checks`, `comparisons` and what they rest on.

    Raises:
        UserError: the two were not measured under the same protocol, on the same starts and
            questions.
    """
    checks: list[Row] = []
    comparisons: list[Row] = []
    if incumbent is None:
        checks += [
            _check(name, "skipped", "no incumbent to compare with")
            for name in ("success", "questions", "VLA Score")
        ]
    else:
        if (what := _alike(candidate, incumbent)) is not None:
            fix = "publish production's weights with results under the candidate's parameters"
            raise UserError(what, where=f"{registry.ROOT}/{model}/{candidate.version}", fix=fix)
        comparisons = _success(candidate, incumbent)
        checks += [
            _compared(f"success, {row['starts']} starts", row, settings.margin)
            for row in comparisons
            if row["task"] == "all"
        ]
        questions = _questions(candidate.answers, incumbent.answers)
        checks.append(_compared("questions", questions, settings.qa_margin))
        score = _score(candidate.scores, incumbent.scores)
        checks.append(_compared("VLA Score", score, settings.score_margin))
    checks += [_gates(candidate.gates), _canary(candidate.canary, settings)]
    return {
        "schema": SCHEMA,
        "model": model,
        "candidate": candidate.version,
        "incumbent": incumbent.version if incumbent else None,
        "accepted": all(check["state"] != "failed" for check in checks),
        "condition": {key: candidate.evaluation.get(key) for key in CONDITION},
        "settings": settings.model_dump(mode="json"),
        "checks": checks,
        "comparisons": comparisons,
    }


def markdown(decision: Mapping[str, Any]) -> str:
    """The decision as a page: one sentence, the table of checks, the paired counts."""
    refused = [check["check"] for check in decision["checks"] if check["state"] == "failed"]
    against = decision["incumbent"] or "nothing, it is the first"
    word = "may become production" if not refused else f"is refused: {', '.join(refused)}"
    lines = [
        f"# {decision['model']} {decision['candidate']} {word}",
        f"Against {against}. Candidate minus incumbent, in points, 95 % paired intervals; "
        f"{decision['condition']['assets']} assets, success mode "
        f"{decision['condition']['success_mode']}.",
        _table(
            ("check", "outcome", "difference", "interval", "must stay above", "n", "remark"),
            [
                (
                    row["check"],
                    row["state"],
                    _points(row["difference"]),
                    _interval(row),
                    _points(row["bound"]),
                    "" if row["n"] is None else row["n"],
                    row["remark"],
                )
                for row in decision["checks"]
            ],
        ),
    ]
    if decision["comparisons"]:
        header = ("starts", "task", "n", "both", "only candidate", "only incumbent", "neither")
        keys = ("starts", "task", "n", "both", "first_only", "second_only", "neither")
        rows = [
            (*(row[key] for key in keys), _points(row["difference"]), _interval(row))
            for row in decision["comparisons"]
        ]
        lines.append(_table((*header, "difference", "interval"), rows))
    if approval := decision.get("approval"):
        said = "Approved" if approval["approved"] else "Refused"
        why = f": {approval['why']}" if approval["why"] else ""
        lines.append(f"{said} by {approval['who']}{why}")
    return "\n\n".join(lines) + "\n"


def _incumbent(
    where: Place, model: str, version: str | None, candidate: Evidence
) -> Evidence | None:
    """Production's results: if measured under another protocol, those of a version of its weights.

    Without this no change of protocol could ever be promoted.
    """
    if version is None:
        return None
    found = evidence(where, model, version)
    if _alike(candidate, found) is None:
        return found
    weights = registry.fingerprint(versions.require(where, f"{registry.ROOT}/{model}/{version}"))
    for one in reversed(registry.listing(where, model)):
        if registry.fingerprint(one.manifest) == weights:
            other = evidence(where, model, one.name)
            if _alike(candidate, other) is None:
                return other
    return found


def _alike(one: Evidence, other: Evidence) -> str | None:
    """What keeps two versions from being compared; None if nothing does."""
    for stage, mine, theirs, keys in (
        ("evaluate", one.evaluation, other.evaluation, CONDITION),
        ("score", one.scoring, other.scoring, SCORING),
    ):
        for key in keys:
            if mine.get(key) != theirs.get(key):
                return f"{stage}: {key} is {mine.get(key)!r}, for production {theirs.get(key)!r}"
    return None


def _success(candidate: Evidence, incumbent: Evidence) -> list[Row]:
    from dualvla.evaluation import simpler

    mode = candidate.evaluation["success_mode"]
    episodes = candidate.episodes.copy()
    crashed = episodes["status"] != "ok"
    episodes.loc[crashed, mode] = False
    episodes.loc[crashed, "status"] = "ok"
    return simpler.compare(episodes, incumbent.episodes, mode)


def _questions(candidate: "pd.DataFrame", incumbent: "pd.DataFrame") -> Row:
    from dualvla.evaluation import statistics

    asked = ["id", "question", "wanted"]
    pairs = candidate[[*asked, "right"]].merge(
        incumbent[[*asked, "right"]], on=asked, how="outer", indicator="side"
    )
    if not (pairs["side"] == "both").all():
        fix = "benchmark both with the same questions"
        raise UserError("the two were not asked the same questions", fix=fix)
    if not len(pairs):
        return {"n": 0, "difference": None, "low": -1.0, "high": 1.0}
    one, other = pairs["right_x"].to_numpy(bool), pairs["right_y"].to_numpy(bool)
    difference, low, high = statistics.paired_difference(one, other)
    return {"n": len(pairs), "difference": difference, "low": low, "high": high}


def _score(candidate: "pd.DataFrame", incumbent: "pd.DataFrame") -> Row:
    """Mean difference of the trajectories that both have; crashed ones count in success."""
    from dualvla.evaluation import simpler

    columns = [*simpler.KEY, "score"]
    pairs = candidate[columns].merge(incumbent[columns], on=simpler.KEY, validate="one_to_one")
    return _mean((pairs["score_x"] - pairs["score_y"]).to_numpy(float))


def _mean(values: "NDArray[np.floating]") -> Row:
    """Mean of differences in [-1, 1] with Student's t interval, 95 %."""
    import numpy as np
    from scipy import stats

    count = len(values)
    if count < 2:
        return {"n": count, "difference": None, "low": -1.0, "high": 1.0}
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf(0.975, count - 1)) * error
    mean = float(np.mean(values))
    return {"n": count, "difference": mean, "low": mean - half, "high": mean + half}


def _compared(name: str, row: Mapping[str, Any], margin: float) -> Row:
    """Non-inferiority, and not shown to be worse."""
    if row["low"] <= -margin:
        remark = "a greater loss than the margin is not ruled out"
    elif row["high"] < 0:
        remark = "shown to be worse"
    else:
        remark = ""
    figures = {key: row[key] for key in ("n", "difference", "low", "high")}
    return _check(name, "failed" if remark else "passed", remark, bound=-margin, **figures)


def _gates(gates: list[Mapping[str, Any]]) -> Row:
    broken = [f"{gate['suite']} {gate['subject'] or ''}".strip() for gate in gates]
    broken = [name for name, gate in zip(broken, gates, strict=True) if not gate["success"]]
    remark = f"not green: {', '.join(broken)}" if broken else "" if gates else "none was recorded"
    return _check("quality gates", "failed" if remark else "passed", remark, n=len(gates))


def _canary(canary: Mapping[str, Any] | None, settings: Promotion) -> Row:
    if settings.canary == "skipped":
        return _check("canary", "skipped", "promotion.canary: skipped")
    if canary is None:
        return _check("canary", "failed", "none was recorded")
    state = "passed" if canary["passed"] else "failed"
    return _check("canary", state, canary["remark"] or "", n=canary["episodes"])


def _check(name: str, state: str, remark: str, **figures: Any) -> Row:
    unknown = dict.fromkeys(("n", "difference", "low", "high", "bound"))
    return {"check": name, "state": state, "remark": remark, **unknown, **figures}


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _points(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
