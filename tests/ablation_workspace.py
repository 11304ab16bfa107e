"""A workspace after every run of a small ablation: result files with outcomes that are known.

Arms differ by what `CHANCE` says; every model meets the same starts under the same seeds.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from dualvla import config, paths, runs
from dualvla.evaluation import outcomes, simpler

ROOT = Path(__file__).parents[1]
CHANCE = {
    "specialist": 0.55,
    "generalist": 0.4,
    "dualvla": 0.62,
    "base_ft": 0.42,
    "random_mask": 0.45,
    "specialist_ft": 0.63,
}
MODELS = [name for name in CHANCE if name != "specialist"]
TASKS = ("carrot", "stack")


def build(root: Path, trials: int = 40, budgets: tuple[str, ...] = ("short",)) -> config.Params:
    """Write params.yaml and the ablation's results under `root`; return the params."""
    raw = yaml.safe_load((ROOT / "params/default.yaml").read_text())
    raw["simulation"]["tasks"] = list(TASKS)
    raw["ablation"] |= {"arms": MODELS[1:], "models": MODELS, "budgets": list(budgets)}
    raw["ablation"]["starts"] = {"official": None, "shifted": trials}
    params = config.parse(raw)
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    for seed in params.ablation.seeds:
        evaluation(root, params, "specialist", runs.name(config.UNTRAINED, seed), trials)
        for budget in budgets:
            run = runs.name(budget, seed)
            for model in MODELS:
                evaluation(root, params, model, run, trials)
                benchmark(root, model, run)
                training(root, params, model, run)
    return params


def evaluation(root: Path, params: config.Params, model: str, run: str, trials: int) -> None:
    """Outcomes in which a hard start is hard for every model and under every seed."""
    seed = int(run.rpartition("-")[2])
    rows = []
    for starts in params.ablation.starts:
        for number, task in enumerate(TASKS):
            hard = np.random.default_rng(number).random(trials)
            own = np.random.default_rng([number, seed, list(CHANCE).index(model)]).random(trials)
            for index in range(trials):
                won = bool(0.6 * hard[index] + 0.4 * own[index] < CHANCE[model])
                row = dict.fromkeys(simpler.EPISODE_TYPES)
                row |= {"starts": starts, "task": task, "start_id": f"{task}-{index:02d}"}
                row |= {"seed": 1000 * seed + index, "status": "ok", "steps": 120}
                row |= {"decisions": 30, "texts": 8, "tokens": 150}
                rows.append(row | dict.fromkeys(outcomes.MODES, won))
    if model == "dualvla":
        rows[1] |= {"status": "error", "error": "worker died"} | dict.fromkeys(outcomes.MODES)
    table = pd.DataFrame(rows).astype(simpler.EPISODE_TYPES)
    folder = root / paths.results(paths.EVALUATION, model, run)
    folder.mkdir(parents=True)
    table.to_parquet(folder / "results.parquet", index=False)
    outcome = simpler.Outcome(table, pd.DataFrame(), 60.0)
    timing = root / paths.DECISIONS / f"{paths.label(model, run)}.json"
    _json(timing, {"decisions": int(table["decisions"].sum()), "seconds": 60.0})
    ran = {"assets": params.simulation.assets, "execute": 4, "seed": seed}
    ran["protocol"] = {"name": "nightly", "hash": f"of seed {seed}"}
    ran["reason"] = "never" if model == "specialist" else "auto"  # it has no words
    _json(folder / "summary.json", simpler.summary(outcome, "last_step") | ran)


def benchmark(root: Path, model: str, run: str) -> None:
    """Eighty of a hundred questions right, for the specialist trained on none."""
    right = np.arange(100) < (0 if model == "specialist_ft" else 80)
    folder = root / paths.results(paths.BENCHMARK, model, run)
    folder.mkdir(parents=True)
    answers = pd.DataFrame({"id": [f"q{i}" for i in range(100)], "right": right})
    answers.to_parquet(folder / "answers.parquet", index=False)


def training(root: Path, params: config.Params, model: str, run: str) -> None:
    """What training writes beside a model."""
    steps = runs.resolve(params, run).distill.steps
    record = {"steps": steps, "text_share": 0.2, "heldout": {"flow": 0.1}}
    _json(root / paths.model(model, run) / "metrics.json", record)


def _json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
