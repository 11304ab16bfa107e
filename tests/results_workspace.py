"""A workspace after every stage but the report: small result files with plausible numbers.

`build` writes what the stages write, as they write it; tests of the report and of whatever reads
results share it.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from dualvla import config, paths
from dualvla.evaluation import outcomes, simpler, statistics
from dualvla.pruning import prune
from dualvla.report import lineage

ROOT = Path(__file__).parents[1]
MODELS = ("specialist", "generalist", "dualvla", "base_ft")
CHANCE = {"specialist": 0.55, "generalist": 0.42, "dualvla": 0.62, "base_ft": 0.5}
TASK_EASE = {"carrot": 0.1, "spoon": 0.0, "stack": -0.3, "eggplant": 0.2}
KINDS = ("colour", "count", "left_of", "category")
VIDEO = b"\0\0\0\x18ftypmp42 not a real film"


def build(root: Path, trials: int = 24, video: bytes = VIDEO) -> config.Params:
    """Write params.yaml, results, models, data and dvc.lock under `root`; return the params."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["evaluate"] |= {"models": list(MODELS), "episodes_per_task": trials}
    raw["distill"]["arms"] = ["dualvla", "base_ft"]
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    params = config.parse(raw)
    for model in MODELS:
        _evaluation(root / paths.EVALUATION / model, model, params, trials, video)
        _benchmark(root / paths.BENCHMARK / model, model)
        _score(root / paths.SCORE / model, model)
        _diagnosis(root / paths.DIAGNOSIS / model, model)
    for name in ("base_vlm", *MODELS):
        _training(root / paths.MODELS / name, name)
    _pruned(root / paths.PRUNED)
    record = {"schema": 1, "episodes": 240, "attempts": 263, "success_share": 0.9125}
    _json(root / paths.DEMONSTRATIONS / "metrics.json", record)
    _json(root / paths.DEMONSTRATIONS / "quality.json", _gate("demonstrations", warned=1))
    _json(root / paths.PRUNED / "quality.json", _gate("pruned"))
    for stage, seconds in {"demonstrations": 411.2, "specialist": 903.7}.items():
        _json(root / paths.TIMINGS / f"{stage}.json", _timing(stage, seconds))
    (root / "dvc.lock").write_text(yaml.safe_dump(lock(root), sort_keys=False))
    return params


def lock(root: Path) -> dict:
    """A lock of a few stages with the true md5 of what lies in the workspace."""

    def item(path: Path | str) -> dict:
        path = Path(path)
        md5 = lineage.md5(root / path) or hashlib.md5(str(path).encode()).hexdigest()
        return {"path": path.as_posix(), "hash": "md5", "md5": md5}

    stages = {
        "demonstrations": {
            "cmd": "python -m dualvla.stages.demonstrations",
            "deps": [item("dualvla/stages/demonstrations.py")],
            "params": {"params.yaml": {"seed": 0, "demonstrations.per_task": 60}},
            "outs": [item(paths.DEMONSTRATIONS)],
        },
        "prune": {
            "cmd": "python -m dualvla.stages.prune",
            "deps": [item(paths.DEMONSTRATIONS), item("dualvla/pruning")],
            "outs": [item(paths.PRUNED)],
        },
    }
    for model in MODELS:
        stages[f"train@{model}"] = {
            "cmd": f"python -m dualvla.stages.distill --arm {model}",
            "deps": [item(paths.PRUNED), item("dualvla/training")],
            "params": {"params.yaml": {"distill.steps": 400}},
            "outs": [item(paths.model(model))],
        }
        results = {"evaluate": paths.EVALUATION, "benchmark": paths.BENCHMARK}
        results |= {"score": paths.SCORE, "diagnose": paths.DIAGNOSIS}
        for stage, folder in results.items():
            stages[f"{stage}@{model}"] = {
                "cmd": f"python -m dualvla.stages.{stage} --model {model}",
                "deps": [item(paths.model(model)), item("dualvla/evaluation")],
                "params": {"params.yaml": {"seed": 0}},
                "outs": [item(folder / model)],
            }
    return {"schema": "2.0", "stages": stages}


def episodes(model: str, tasks: tuple[str, ...], trials: int) -> pd.DataFrame:
    """Outcomes in which harder starts are harder for every model, as in a real evaluation."""
    rows = []
    for number, task in enumerate(tasks):
        hard = np.random.default_rng(number).random(trials)
        own = np.random.default_rng([number, MODELS.index(model)]).random(trials)
        chance = CHANCE[model] + TASK_EASE[task]
        for index in range(trials):
            row = dict.fromkeys(simpler.EPISODE_TYPES)
            row |= {"starts": "official", "task": task, "start_id": f"{task}-{index:02d}"}
            won = bool(0.6 * hard[index] + 0.4 * own[index] < chance)
            row |= {"seed": 1000 * number + index, "status": "ok", "last_step": won}
            row |= {"any_step": won or own[index] < 0.1, "early_stop": won}
            row |= {"steps": 120, "decisions": 30, "texts": 8, "tokens": 150}
            rows.append(row)
    rows[1] |= {"status": "error", "error": "worker died"}
    rows[1] |= dict.fromkeys(outcomes.MODES)
    return pd.DataFrame(rows).astype(simpler.EPISODE_TYPES)


def _evaluation(folder: Path, model: str, params: config.Params, trials: int, video: bytes) -> None:
    table = episodes(model, params.simulation.tasks, trials)
    steps = pd.DataFrame({"starts": ["official"], "step": [0]})
    seconds = {"specialist": 55.0, "generalist": 190.0, "dualvla": 120.0, "base_ft": 170.0}
    outcome = simpler.Outcome(table, steps, seconds[model])
    decisions = int(table["decisions"].sum())
    timing = folder.parents[2] / paths.DECISIONS / f"{model}.json"
    _json(timing, {"decisions": decisions, "seconds": seconds[model]})
    summary = simpler.summary(outcome, params.evaluate.success_mode) | {
        "schema": 2,
        "model": model,
        "protocol": {"name": "nightly", "hash": "0" * 64},
        "assets": params.simulation.assets,
        "reason": "never" if model == "specialist" else params.evaluate.reason,
        "seed": params.seed,
        "execute": params.evaluate.execute,
    }
    _json(folder / "summary.json", summary)
    table.to_parquet(folder / "results.parquet", index=False)
    (folder / "videos").mkdir()
    for task in params.simulation.tasks:
        (folder / "videos" / f"{task}-00.mp4").write_bytes(video)


def _benchmark(folder: Path, model: str) -> None:
    right = {"specialist": 3, "generalist": 216, "dualvla": 211, "base_ft": 209}[model]
    by_kind = {kind: statistics.rate(right // 4, 60) for kind in KINDS}
    overall = statistics.rate(4 * (right // 4), 240)
    head = {"schema": 1, "model": model, "name": "embedded held-out QA"}
    _json(folder / "summary.json", head | overall | {"by_kind": by_kind})


def _score(folder: Path, model: str) -> None:
    reasons = model != "specialist"
    success = CHANCE[model]
    summary = {
        "schema": 1,
        "model": model,
        "judge": "rules",
        "scale": "reasoning" if reasons else "specialist",
        "n": 95,
        "r": 0.7 + success / 8 if reasons else None,
        "a": 0.4 + success / 2,
        "i": 0.5 + success / 3,
        "ra": 0.3 + success / 2 if reasons else None,
        "success": success,
        "score": 0.7 * success,
        "score_per_success": 0.7,
        "failures": {"dropped": 4, "never grasped": 11},
    }
    _json(folder / "summary.json", summary)


def _diagnosis(folder: Path, model: str) -> None:
    reasons = model != "specialist"
    lean = {"specialist": 0.0, "generalist": 1.0, "dualvla": 0.15, "base_ft": 0.8}[model]

    def error(value: float, n: int) -> dict:
        half = 0.3 / n**0.5
        bounds = {"error": value, "low": value - half, "high": value + half}
        return bounds | {"n": n, "episodes": min(n, 12)}

    def after(n: int, base: float) -> dict:
        more = {"true": 0.0, "generated": 0.04, "shuffled": 0.3, "none": 0.02}
        texts = {text: error(base + lean * worse, n) for text, worse in more.items()}
        return texts if reasons else dict.fromkeys(more) | {"none": texts["none"]}

    subsets = {"all": after(256, 0.08)}
    summary = {"schema": 1, "model": model, "frames": 256, "episodes": 12, "execute": 4}
    summary |= {"errors": subsets, "subtask": None, "thinks": {}, "kept": {}}
    if reasons:
        subsets |= {"right": after(207, 0.07), "wrong": after(49, 0.12)}
        summary["subtask"] = statistics.rate(207, 256)
        share = 30 if model == "dualvla" else 150
        for key, extra in (("thinks", 4), ("kept", 0)):
            plain, free = statistics.rate(share + extra, 154), statistics.rate(100 - extra, 102)
            summary[key] = {"plain": plain, "free_form": free}
    _json(folder / "summary.json", summary)


def _training(folder: Path, name: str) -> None:
    curve = [{"step": s, "loss": 0.4 + 2.5 * float(np.exp(-s / 120))} for s in range(0, 601, 20)]
    record = {"schema": 1, "stage": name, "steps": 600}
    heldout = {"loss": 0.71, "flow": 0.118, "language": 0.62}
    record |= {"heldout": heldout, "curve": curve}
    if name == "base_vlm":
        record["heldout"] = {"qa_k": 168, "qa_n": 240, "qa_rate": 0.7}
    elif name != "specialist":
        shift = MODELS.index(name) / 10
        record["conflict"] = [
            {"step": s, "cosine": 0.3 - s / 1000 - shift, "flow_norm": 0.8, "language_norm": 2.5}
            for s in range(0, 600, 60)
        ]
    _json(folder / "metrics.json", record)


def _pruned(folder: Path) -> None:
    rng = np.random.default_rng(7)
    tasks = np.repeat(list(TASK_EASE), 600)
    columns = {
        "dataset": "generated",
        "episode_index": np.arange(2400) // 60,
        "frame_index": np.arange(2400) % 60,
        "task": tasks,
        "scene": rng.random(2400) < 0.25,
        "action": rng.random(2400) < 0.3,
        "keep": rng.random(2400) < 0.17,
    }
    shares = prune.retention(pd.DataFrame(columns))
    _json(folder / "retention.json", {"schema": 1, "keep_free_form": True, "retention": shares})
    _json(folder / "events.json", _events())
    Image.new("RGB", (8, 4), "white").save(folder / "timeline.png")


def _events() -> dict:
    found = {"fixed_stride": 61, "change_point": 74, "learned": 118}
    methods = {
        name: {"matched": k, "found": 140, "true": 132}
        | {"precision": k / 140, "recall": k / 132, "f1": 2 * k / 272}
        | {"low": 2 * k / 272 - 0.05, "high": 2 * k / 272 + 0.05}
        for name, k in found.items()
    }
    head = {"schema": 1, "scene_layer": "learned", "tolerance": 1, "training_episodes": [0, 3]}
    heldout = {"episodes": 20, "frames": 900, "boundaries": 132}
    return head | {"heldout": heldout, "methods": methods}


def _gate(suite: str, warned: int = 0) -> dict:
    outcome = {
        "table": "episodes",
        "columns": ["length"],
        "expected": "mean between 20 and 90",
        "observed": "mean 93.1",
        "why": "long episodes hide idling",
        "status": "warned",
        "rows": [],
        "count": 0,
    }
    counts = {"missing": 0, "failed": 0, "warned": warned, "passed": 14}
    expectations = [outcome] * warned
    head = {"schema": 1, "success": True, "suite": suite, "subject": None, "tables": {}}
    return head | {"counts": counts, "expectations": expectations}


def _timing(stage: str, seconds: float) -> dict:
    used = {"cpu_seconds": 1.7 * seconds, "peak_rss_mib": 1210.5, "peak_rss_child_mib": 744.0}
    head = {"schema": 1, "stage": stage, "selection": {}, "started": "2025-01-01T00:00:00+00:00"}
    return head | {"seconds": seconds} | used


def _json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
