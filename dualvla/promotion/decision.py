"""A decision about a candidate, from published results alone.

A candidate must not lose: on the same starts, questions and trajectories as the incumbent, the
interval of the paired difference lies above minus a margin. That is a test of non-inferiority: too
few episodes cannot show it, so they refuse a candidate instead of waving it through. A candidate
that is shown to be worse is refused even within the margin, or small losses would add up night by
night. An episode of the candidate that ended in an error counts as lost here (and here only),
because whatever breaks on a hard start must not be promoted for it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dualvla.config import Promotion
from dualvla.errors import UserError
from dualvla.promotion import evidence
from dualvla.promotion.evidence import Evidence
from dualvla.store import registry

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1

Row = dict[str, Any]


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
        if (what := evidence.unlike(candidate, incumbent)) is not None:
            fix = "publish production's weights with results under the candidate's parameters"
            raise UserError(what, where=f"{registry.ROOT}/{model}/{candidate.version}", fix=fix)
        comparisons = _success(candidate, incumbent)
        checks += [
            compared(f"success, {row['starts']} starts", row, settings.margin)
            for row in comparisons
            if row["task"] == "all"
        ]
        questions = _questions(candidate.answers, incumbent.answers)
        checks.append(compared("questions", questions, settings.qa_margin))
        score = _score(candidate.scores, incumbent.scores)
        checks.append(compared("VLA Score", score, settings.score_margin))
    checks += [_gates(candidate.gates), _canary(candidate.canary, settings)]
    return {
        "schema": SCHEMA,
        "model": model,
        "candidate": candidate.version,
        "incumbent": incumbent.version if incumbent else None,
        "accepted": all(check["state"] != "failed" for check in checks),
        "condition": {key: candidate.evaluation.get(key) for key in evidence.CONDITION},
        "settings": settings.model_dump(mode="json"),
        "checks": checks,
        "comparisons": comparisons,
    }


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
    """Mean difference of the trajectories rated on both sides; crashed ones count in success."""
    from dualvla.evaluation import simpler, statistics

    columns = [*simpler.KEY, "score"]
    one, other = (rows.loc[rows["status"] == "ok", columns] for rows in (candidate, incumbent))
    pairs = one.merge(other, on=simpler.KEY, validate="one_to_one")
    differences = (pairs["score_x"] - pairs["score_y"]).to_numpy(float)
    low, high = statistics.mean_interval(differences, least=-1.0)
    mean = float(differences.mean()) if len(pairs) else None
    return {"n": len(pairs), "difference": mean, "low": low, "high": high}


def compared(name: str, row: Mapping[str, Any], margin: float) -> Row:
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
