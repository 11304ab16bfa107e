"""Workspaces of finished runs, ready to be published; models can be made worse on purpose."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import results_workspace
import yaml

from dualvla import config, files, paths
from dualvla.evaluation import simpler
from dualvla.promotion.evidence import Evidence, gather
from dualvla.report import summary
from dualvla.store import registry

MODEL = "dualvla"
QUESTIONS = 240


def build(
    root: Path,
    monkeypatch,
    *,
    weights: bytes = b"weights",
    lost: float = 0.0,
    forgotten: float = 0.0,
    **evaluation: object,
) -> Path:
    """A run's workspace whose `dualvla` differs from any other run's as told.

    Args:
        root: folder made.
        monkeypatch: to be in it while its report is gathered.
        weights: of the model.
        lost: share of its successes that are failures here.
        forgotten: share of its right answers that are wrong here.
        evaluation: other values in every evaluation's summary.
    """
    root.mkdir(parents=True)
    params = results_workspace.build(root)
    episodes = results_workspace.episodes(MODEL, params.simulation.tasks, 24)
    won = np.flatnonzero(episodes["last_step"].fillna(False))
    episodes.loc[won[: round(lost * len(won))], list(simpler.MODES)] = False
    _write(root, params, weights, episodes, forgotten, evaluation)
    lock = results_workspace.lock(root)
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    (root / "dvc.yaml").write_text("stages: {}\n")
    alone = params.model_copy(
        update={"evaluate": params.evaluate.model_copy(update={"models": (MODEL,)})}
    )
    with monkeypatch.context() as patch:
        patch.chdir(root)
        figures = summary.collect(alone)
    _json(root / paths.REPORT / "summary.json", figures)
    (root / paths.REPORT / "index.html").write_text("<h1>report</h1>")
    return root


def evidence(folder: Path) -> Evidence:
    """What a decision would read of the run's `dualvla`, had it been published."""
    about = registry.about(folder, MODEL, files.read_json(folder / paths.REPORT / "summary.json"))

    def read(name: str) -> bytes:
        kind, _, file = name.partition("/")
        return (folder / registry.RESULTS[kind] / MODEL / file).read_bytes()

    return gather(folder.name, {"about": about, "files": {}}, read)


def _write(
    root: Path,
    params: config.Params,
    weights: bytes,
    episodes: pd.DataFrame,
    forgotten: float,
    evaluation: dict[str, object],
) -> None:
    model = root / paths.model(MODEL)
    (model / "model.safetensors").write_bytes(weights)
    _json(model / "environment.json", {"python": "3.11.2"})
    for other in results_workspace.MODELS:
        path = root / paths.EVALUATION / other / "summary.json"
        _json(path, json.loads(path.read_text()) | evaluation)
    folder = root / paths.EVALUATION / MODEL
    told = json.loads((folder / "summary.json").read_text())
    outcome = simpler.Outcome(episodes, pd.DataFrame(), 120.0)
    figures = simpler.summary(outcome, params.evaluate.success_mode)
    _json(folder / "summary.json", told | figures)
    episodes.to_parquet(folder / simpler.EPISODES, index=False)
    ran = episodes.loc[episodes["status"] == "ok", simpler.KEY]
    there = [ran.assign(step=step, **dict.fromkeys(PLACES, 0.1 * step)) for step in (0, 1)]
    pd.concat(there).to_parquet(folder / simpler.STEPS, index=False)
    ids = [str(number) for number in range(QUESTIONS)]
    right = np.arange(QUESTIONS) % 8 > 0
    right[: round(forgotten * QUESTIONS)] = False
    answers = {"id": ids, "question": ids, "wanted": ids, "right": right}
    pd.DataFrame(answers).to_parquet(root / paths.BENCHMARK / MODEL / "answers.parquet")
    rated = 0.8 * episodes.loc[ran.index, "last_step"].astype(float)
    scores = ran.assign(score=rated, status="ok")
    place = root / paths.SCORE / MODEL
    scores.to_parquet(place / "scores.parquet", index=False)
    scoring = json.loads((place / "summary.json").read_text())
    _json(place / "summary.json", scoring | {"success_mode": told["success_mode"]})


PLACES = ("state.x", "state.y", "state.z")


def _json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
