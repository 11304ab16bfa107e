"""The sections of the summary: each function reads one kind of result file.

A missing file is one error that names the stage to run. Where two files hold the same figure they
are compared, because a report that repeats a stale number is worse than none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dualvla import files, paths
from dualvla.errors import UserError
from dualvla.evaluation import statistics

LAYERS = ("scene", "action", "keep")
SCORE_KEYS = ("r", "a", "i", "ra", "success", "score")
COSTS = ("texts", "tokens")
TIMING_KEYS = (
    *("seconds", "cpu_seconds", "gpu_seconds"),
    *("peak_rss_mib", "peak_rss_child_mib", "gpu_peak_mib"),
    *("energy_joules", "energy_of", "s3_sent_bytes", "s3_received_bytes", "started"),
)

Row = dict[str, Any]


def evaluation(model: str) -> Row:
    """Summary of a model's closed-loop evaluation."""
    return _read(paths.EVALUATION / model / "summary.json", "evaluate")


def condition(evaluations: dict[str, Row]) -> Row:
    """What all models must share to stand in one table; a `UserError` if they do not."""
    keys = ("assets", "success_mode", "seed", "execute", "protocol")
    names = list(evaluations)
    first = {key: evaluations[names[0]][key] for key in keys}
    for name in names[1:]:
        for key in keys:
            if evaluations[name][key] != first[key]:
                what = f"{key} is {evaluations[name][key]!r}, for {names[0]} {first[key]!r}"
                where = str(paths.EVALUATION / name)
                raise UserError(what, where=where, fix="evaluate both with the same parameters")
    return {
        "assets": first["assets"],
        "success_mode": first["success_mode"],
        "evaluation_seed": first["seed"],
        "execute": first["execute"],
    }


def episodes(model: str) -> pd.DataFrame:
    """Outcomes of a model's episodes, one row each."""
    path = paths.EVALUATION / model / "results.parquet"
    if not path.is_file():
        raise UserError("no such file", where=str(path), fix=f"run the stage evaluate@{model}")
    return pd.read_parquet(path)


def success(model: str, evaluation: Row, episodes: pd.DataFrame) -> list[Row]:
    """Success rates of the reported mode, checked against the episodes.

    Raises:
        UserError: the summary and the episodes of the same model disagree.
    """
    rows = []
    for rate in evaluation["rates"]:
        chosen = episodes[episodes["starts"] == rate["starts"]]
        chosen = chosen if rate["task"] == "all" else chosen[chosen["task"] == rate["task"]]
        usable = chosen[chosen["status"] == "ok"]
        k = int(usable[evaluation["success_mode"]].sum())
        if (k, len(usable)) != (rate["k"], rate["n"]):
            what = f"summary.json says {rate['k']}/{rate['n']} for {rate['task']}, "
            what += f"results.parquet {k}/{len(usable)}"
            fix = f"run the stage evaluate@{model} again"
            raise UserError(what, where=str(paths.EVALUATION / model), fix=fix)
        rows.append(
            {
                "model": model,
                **{key: rate[key] for key in ("starts", "task", "k", "n", "errors")},
                **{key: rate[key] for key in ("rate", "low", "high")},
                "seeds": sorted(int(seed) for seed in chosen["seed"].unique()),
                "mode": evaluation["success_mode"],
                "assets": evaluation["assets"],
                "source": str(paths.EVALUATION / model),
            }
        )
    return rows


def modes(model: str, evaluation: Row) -> list[Row]:
    """The same rollouts under each of the three success modes."""
    keys = ("k", "n", "rate", "low", "high")
    return [
        {"model": model, "mode": mode, **{key: values[key] for key in keys}}
        for mode, values in evaluation["modes"].items()
    ]


def decisions(model: str, evaluation: Row) -> Row:
    """What a decision costs: tokens written, seconds of wall time where this workspace ran it."""
    keys = ("reason", "decisions", *(f"{what}_per_decision" for what in COSTS))
    more = {
        "seconds_per_decision": seconds_per_decision(model),
        "source": str(paths.EVALUATION / model),
    }
    return {"model": model} | {key: evaluation[key] for key in keys} | more


def seconds_per_decision(name: str) -> float | None:
    """Wall-clock seconds of a decision of paths.label `name`; None if it was not measured here."""
    path = paths.DECISIONS / f"{name}.json"
    if not path.is_file():
        return None
    measured = files.read_json(path)
    return measured["seconds"] / measured["decisions"] if measured["decisions"] else None


def questions(model: str) -> list[Row]:
    """Held-out visual question answering, `all` kinds first."""
    folder = paths.BENCHMARK / model
    data = _read(folder / "summary.json", "benchmark")
    keys = ("k", "n", "rate", "low", "high")
    kinds = {"all": data, **data["by_kind"]}
    return [
        {"model": model, "kind": kind, **{key: row[key] for key in keys}, "source": str(folder)}
        for kind, row in kinds.items()
    ]


def base_questions() -> list[Row]:
    """The base VLM's own answers to the held-out questions; none where it was not trained here.

    Its training asks all of them at once, so there is one row and none by kind.
    """
    path = paths.model("base_vlm") / "metrics.json"
    heldout = files.read_json(path).get("heldout") or {} if path.is_file() else {}
    if "qa_n" not in heldout:
        return []
    asked = statistics.rate(int(heldout["qa_k"]), int(heldout["qa_n"]))
    return [{"model": "base_vlm", "kind": "all", **asked, "source": str(path)}]


def score(model: str) -> Row:
    """VLA Score: means of the judged dimensions in [0, 1]; null where a model has none."""
    folder = paths.SCORE / model
    data = _read(folder / "summary.json", "score")
    row = {key: data[key] for key in (*SCORE_KEYS, "score_per_success", "n", "failures")}
    return {"model": model, **row, "scale": data["scale"], "judge": data["judge"]} | {
        "source": str(folder)
    }


def diagnosis(model: str) -> Row:
    """Action errors on held-out frames after several texts, and what the model says there."""
    folder = paths.DIAGNOSIS / model
    data = _read(folder / "summary.json", f"diagnose@{model}")
    keys = ("frames", "episodes", "execute", "errors", "subtask", "thinks", "kept")
    return {"model": model} | {key: data[key] for key in keys} | {"source": str(folder)}


def events() -> Row:
    """How well held-out event boundaries are found; no rows where no episode has labels."""
    path = paths.PRUNED / "events.json"
    if not path.is_file():
        return {"source": None, "scene_layer": None, "tolerance": None, "heldout": None, "rows": []}
    data = files.read_json(path)
    rows = [{"method": method, **figures} for method, figures in data["methods"].items()]
    kept = {key: data[key] for key in ("scene_layer", "tolerance", "heldout")}
    return {"source": str(path), **kept, "rows": rows}


def retention() -> list[Row]:
    """Share of frames that each layer and the verdict (`keep`) mark; a census, no sample."""
    path = paths.PRUNED / "retention.json"
    data = _read(path, "prune")["retention"]
    groups = [("all", "all", data["all"])]
    groups += [
        (kind, name, data[kind][name]) for kind in ("task", "dataset") for name in data[kind]
    ]
    return [
        {
            "kind": kind,
            "group": name,
            "layer": layer,
            "k": share["counts"][layer],
            "n": share["frames"],
            "rate": share["shares"][layer],
            "source": str(path),
        }
        for kind, name, share in groups
        for layer in LAYERS
    ]


def training(order: Sequence[str]) -> list[Row]:
    """Steps, loss curve and held-out figures of every model trained, in the pipeline's order."""
    found = {path.parent.name: path for path in paths.MODELS.glob("*/metrics.json")}
    names = [name for name in order if name in found]
    rows = []
    for name in [*names, *sorted(found.keys() - set(names))]:
        data = files.read_json(found[name])
        curve = data.get("curve") or []  # a downloaded base model was not trained here
        rest = {
            key: data[key]
            for key in data.keys() - {"schema", "stage", "steps", "curve", "conflict"}
        }
        figures = flatten(rest.pop("heldout", None) or {}) | flatten(rest)
        rows.append(
            {
                "model": name,
                "stage": data["stage"],
                "steps": data.get("steps"),
                "final_loss": curve[-1]["loss"] if curve else None,
                "curve": curve,
                "conflict": data.get("conflict") or [],
                "heldout": figures,
                "source": str(found[name]),
            }
        )
    return rows


def demonstrations() -> Row:
    """Figures of the collection, by dotted name; none if the episodes were not collected here."""
    path = paths.DEMONSTRATIONS / "metrics.json"
    if not path.is_file():
        return {"source": None, "values": {}}
    return {"source": str(path), "values": flatten(files.read_json(path))}


def quality() -> list[Row]:
    """Outcome of every quality gate, with the expectations that failed or warned."""
    rows = []
    for root in (Path("data"), paths.MODELS, Path("results")):
        for path in sorted(root.rglob("quality.json")):
            data = files.read_json(path)
            broken = [o for o in data["expectations"] if o["status"] in ("missing", "failed")]
            warned = [o for o in data["expectations"] if o["status"] == "warned"]
            rows.append(
                {
                    "suite": data["suite"],
                    "subject": data.get("subject"),
                    "success": data["success"],
                    "counts": data["counts"],
                    "remarks": [_remark(outcome) for outcome in [*broken, *warned]],
                    "source": str(path),
                }
            )
    return rows


def _remark(outcome: Row) -> str:
    columns = " and ".join(outcome["columns"]) or outcome["table"]
    return f"{columns}: {outcome['expected']}, observed {outcome['observed']} ({outcome['why']})"


def videos(models: Sequence[str]) -> list[Row]:
    """Recorded episodes; those of one start stand side by side, in the order of the models."""
    found = [
        {"model": model, "file": str(path)}
        for model in models
        for path in (paths.EVALUATION / model / "videos").glob("*.mp4")
    ]
    return sorted(found, key=lambda row: (Path(row["file"]).name, models.index(row["model"])))


def timings() -> list[Row]:
    """What each stage cost when it last ran in this workspace."""
    rows = []
    for path in sorted(paths.TIMINGS.glob("*.json")):
        data = files.read_json(path)
        rows.append({"stage": path.stem} | {key: data.get(key) for key in TIMING_KEYS})
    return rows


def flatten(data: Any, prefix: str = "") -> Row:
    """Numbers, texts and truth values of nested data by dotted name; lists are left out."""
    if isinstance(data, list):
        return {}
    if not isinstance(data, dict):
        return {prefix: data}
    parts: Row = {}
    for key in sorted(data.keys() - {"schema"}):
        parts |= flatten(data[key], f"{prefix}.{key}" if prefix else key)
    return parts


def _read(path: Path, stage: str) -> Row:
    if not path.is_file():
        raise UserError("no such file", where=str(path), fix=f"run the stage {stage}, or dvc repro")
    return dict(files.read_json(path))
