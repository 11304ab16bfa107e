"""The ablation in figures: models x budgets, pooled over seeds (docs/ablation-schema.md, `SCHEMA`).

Pooled episodes are not independent (see `claims`), so that each rate has an interval over starts
and seeds, or the one of independent episodes where that is wider: outcomes that are all alike do
not vary, and are no certainty. Wilson's interval is kept beside it, under its name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dualvla import files, paths, runs
from dualvla.config import UNTRAINED, Params
from dualvla.errors import UserError
from dualvla.evaluation import simpler, statistics
from dualvla.report import claims, reported, sections
from dualvla.report.claims import Outcomes, Row

SCHEMA = 1


def collect(params: Params) -> Row:
    """Gather the summary from the workspace, the current folder.

    Raises:
        UserError: a result is missing, or was made under other conditions than the rest.
    """
    ablation = params.ablation
    models: list[str] = ["specialist", *ablation.models]
    summary: Row = {
        "schema": SCHEMA,
        "profile": params.profile,
        "models": models,
        "seeds": list(ablation.seeds),
        "tasks": list(params.simulation.tasks),
        "starts": list(ablation.starts),
        "margin": claims.MARGIN,
    }
    tables: dict[str, list[Row]] = {
        name: [] for name in ("budgets", "success", "comparisons", "claims", "questions", "costs")
    }
    tables["training"] = []
    for budget, group in runs.names(params).items():
        evaluations = {model: _evaluations(params, model, group) for model in models}
        summary |= _condition(evaluations)
        mode = str(summary["success_mode"])
        outcomes = {model: _outcomes(params, model, group, mode) for model in models}
        _require_pairs(outcomes)
        tables["budgets"].append(_budget(params, budget))
        compared = claims.compare(outcomes)
        asked = [_questions(params, model, group) for model in ablation.models]
        found = {
            "success": [row for m in models for row in rates(m, outcomes[m])],
            "comparisons": compared,
            "claims": claims.told(outcomes, asked),
            "questions": asked,
            "costs": [_costs(params, model, group, evaluations[model]) for model in models],
            "training": [_training(model, group) for model in ablation.models],
        }
        for name, rows in found.items():
            tables[name] += [{"budget": budget, **row} for row in rows]
    summary |= tables
    summary["reported"] = {
        "source": reported.SOURCE,
        "note": reported.note(summary["assets"]),
        "rows": reported.ablation(models),
    }
    summary["notes"] = _notes(summary)
    return summary


def metrics(summary: Mapping[str, Any]) -> Row:
    """Success of all tasks by budget, starts and model, for `dvc metrics`."""
    found: Row = {}
    for row in summary["success"]:
        if row["task"] == "all":
            found.setdefault(row["budget"], {}).setdefault(row["starts"], {})[row["model"]] = row[
                "rate"
            ]
    return found


def rates(model: str, outcomes: pd.DataFrame) -> list[Row]:
    """Success of one model by set of starts, all tasks first, pooled over seeds."""
    rows = []
    for starts, task, part in _parts(outcomes):
        values = part.to_numpy(np.float64)
        known = np.isfinite(values)
        k, n = int(np.nansum(values)), int(known.sum())
        wilson = statistics.rate(k, n)
        low, high = statistics.wider(values, wilson["low"], wilson["high"])
        by_seed = [
            {"seed": seed, "k": int(np.nansum(column)), "n": int(np.isfinite(column).sum())}
            for seed, column in zip(part.columns.tolist(), values.T, strict=True)
        ]
        figures: Row = {"k": k, "n": n, "rate": wilson["rate"], "low": low, "high": high}
        figures |= {"wilson_low": wilson["low"], "wilson_high": wilson["high"]}
        head = {"model": model, "starts": starts, "task": task}
        rows.append(head | figures | {"errors": int((~known).sum()), "by_seed": by_seed})
    return rows


def _parts(outcomes: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    parts = []
    for starts, of_starts in outcomes.groupby(level="starts", sort=False):
        parts.append((str(starts), "all", of_starts))
        tasks = of_starts.groupby(level="task", sort=False)
        parts += [(str(starts), str(task), part) for task, part in tasks]
    return parts


def _run(params: Params, model: str, run: str) -> str:
    """The run in which a model was evaluated: the specialist has one a seed, without a budget."""
    return runs.name(UNTRAINED, int(run.rpartition("-")[2])) if model == "specialist" else run


def _evaluations(params: Params, model: str, group: Sequence[str]) -> list[Row]:
    folders = [paths.results(paths.EVALUATION, model, _run(params, model, run)) for run in group]
    return [_read(folder / "summary.json") for folder in folders]


def _outcomes(params: Params, model: str, group: Sequence[str], mode: str) -> pd.DataFrame:
    """Success (1, 0, NaN for a crash) by start and seed; rows in the order of the plan."""
    parts = {}
    for seed, run in zip(params.ablation.seeds, group, strict=True):
        folder = paths.results(paths.EVALUATION, model, _run(params, model, run))
        table = _table(folder / "results.parquet")
        won = table[mode].where(table["status"] == "ok").astype("Float64").astype("float64")
        parts[seed] = won.set_axis(pd.MultiIndex.from_frame(table[simpler.KEY]))
    outcomes = pd.DataFrame(parts)
    return outcomes.reindex(next(iter(parts.values())).index)


def _require_pairs(outcomes: Outcomes) -> None:
    """Raise a `UserError` unless all models met the same starts."""
    names = list(outcomes)
    for name in names[1:]:
        if not outcomes[name].index.equals(outcomes[names[0]].index):
            what = f"{name} and {names[0]} did not run the same episodes"
            fix = "evaluate both with the same starts and tasks"
            raise UserError(what, where=str(paths.ABLATION), fix=fix)


def _condition(evaluations: Mapping[str, Sequence[Row]]) -> Row:
    """What all evaluations must share to stand in one table; their seeds differ by design.

    A model that has no words never reasons, whatever it is told, and so agrees with any `reason`.
    """
    shared: dict[str, tuple[str, Any]] = {}
    for seed, of_seed in enumerate(zip(*evaluations.values(), strict=True)):
        for model, row in zip(evaluations, of_seed, strict=True):
            if row["protocol"] != of_seed[0]["protocol"]:
                what = f"{model} and {next(iter(evaluations))} ran by other protocols, seed {seed}"
                fix = "evaluate both by one protocol"
                raise UserError(what, where=str(paths.ABLATION), fix=fix)
    for model, rows in evaluations.items():
        for row in rows:
            for key in ("assets", "success_mode", "execute", "reason"):
                if key == "reason" and row[key] == "never":
                    continue
                first_model, first = shared.setdefault(key, (model, row[key]))
                if row[key] != first:
                    what = f"{key} of {model} is {row[key]!r}, of {first_model} {first!r}"
                    fix = "evaluate both with the same parameters"
                    raise UserError(what, where=str(paths.ABLATION), fix=fix)
    return {"reason": "never"} | {key: found for key, (_, found) in shared.items()}


def _budget(params: Params, budget: str) -> Row:
    run = runs.resolve(params, runs.name(budget, params.ablation.seeds[0]))
    steps = {"generalist_steps": run.generalist.steps, "arm_steps": run.distill.steps}
    return {"budget": budget, "factor": params.ablation.factors[budget], **steps}


def _questions(params: Params, model: str, group: Sequence[str]) -> Row:
    """Held-out questions answered right, pooled over seeds, and as a share of the generalist's."""
    right = _right(model, group)
    values = right.to_numpy(np.float64)
    low, high = statistics.wider(values, *statistics.wilson(int(values.sum()), values.size))
    figures: Row = {"k": int(values.sum()), "n": int(values.size), "rate": float(values.mean())}
    base = float(_right("generalist", group).to_numpy(np.float64).mean())
    kept = figures["rate"] / base if base else None
    return {"model": model, **figures, "low": low, "high": high, "of_generalist": kept}


def _right(model: str, group: Sequence[str]) -> pd.DataFrame:
    parts = {}
    for run in group:
        table = _table(paths.results(paths.BENCHMARK, model, run) / "answers.parquet")
        parts[run] = table.set_index("id")["right"].astype("float64")
    return pd.DataFrame(parts)


def _costs(params: Params, model: str, group: Sequence[str], evaluations: Sequence[Row]) -> Row:
    """What a decision costs: tokens, texts, and decisions a second of wall time, if measured."""
    count = sum(row["decisions"] for row in evaluations)
    spent = {
        key: sum((row[f"{key}_per_decision"] or 0.0) * row["decisions"] for row in evaluations)
        for key in sections.COSTS
    }
    labels = [paths.label(model, _run(params, model, run)) for run in group]
    times = [sections.seconds_per_decision(label) for label in labels]
    known = [time for time in times if time]
    return {
        "model": model,
        "decisions": count,
        "tokens_per_decision": spent["tokens"] / count if count else None,
        "texts_per_decision": spent["texts"] / count if count else None,
        "decisions_per_second": len(known) / sum(known) if known else None,
    }


def _training(model: str, group: Sequence[str]) -> Row:
    """Steps, share of frames with text, and held-out flow error of each seed and their mean."""
    records = [_read(paths.model(model, run) / "metrics.json") for run in group]
    flows = [record["heldout"].get("flow") for record in records]
    known = [flow for flow in flows if flow is not None]
    return {
        "model": model,
        "steps": records[0]["steps"],
        "text_share": float(np.mean([record["text_share"] for record in records])),
        "heldout_flow": float(np.mean(known)) if known else None,
        "heldout_flow_by_seed": flows,
    }


def _notes(summary: Row) -> list[str]:
    seeds, margin = len(summary["seeds"]), 100 * summary["margin"]
    notes = [
        "Intervals are percentile intervals of a bootstrap that resamples starts and seeds, or "
        "those of independent episodes (Wilson; Bonett and Price) where these are wider; a seed "
        f"is one training run and its flow noise. With {seeds} seeds about 1/{seeds} of the "
        "variance between training runs is not in them.",
        "p is McNemar's exact test over all pairs of start and seed, Holm within its family. A "
        "model is called better only if it is below 0.05 and the interval excludes zero.",
        f"The margin of non-inferiority, {margin:g} points, was chosen in advance.",
        "All arms end at the same number of optimiser steps counted from the specialist; the "
        "generalist has fewer by those of an arm. specialist_ft fills the batch with robot frames "
        "and plain commands.",
    ]
    if seeds == 1:
        notes[0] = (
            "Intervals resample starts alone: with one seed nothing is known of the variance "
            "between training runs."
        )
    errors = sum(row["errors"] for row in summary["success"] if row["task"] == "all")
    if errors:
        notes.append(f"{errors} episodes ended in an error; they count neither way.")
    return notes


def _read(path: Path) -> Row:
    if not path.is_file():
        raise UserError("no such file", where=str(path), fix="dvc repro ablation/dvc.yaml")
    return dict(files.read_json(path))


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError("no such file", where=str(path), fix="dvc repro ablation/dvc.yaml")
    return pd.read_parquet(path)
