"""Suite of data/pruned: one verdict a frame, every kept frame explained, retention in bounds."""

from pathlib import Path

import pandas as pd

from dualvla.config import Params
from dualvla.quality import episodes
from dualvla.quality.checks import (
    Checks,
    Tables,
    between,
    columns,
    equal,
    filled,
    holds,
    in_set,
    rows,
    soft,
    unique,
)

COLUMNS = ("task", "scene_score", "scene", "action_score", "action", "keep")
KEY = ["dataset", "episode_index", "frame_index"]


def checks(params: Params) -> Checks:
    """Expectations by table, with bounds from the parameters."""
    low, high = params.prune.min_retention, params.prune.max_retention
    return {
        "frames": [
            rows("nothing was judged", low=1),
            columns(*KEY, *COLUMNS, why="training reads them"),
            filled(*COLUMNS, why="a frame without a verdict"),
            unique(*KEY, why="a frame's identity: two verdicts for one frame"),
            between("scene_score", "action_score", low=0, high=1e6, why="scores are finite"),
            in_set("scene", "action", "keep", values=[0, 1], why="yes or no"),
            holds(
                "explained", why="kept although neither layer saw an event and it is no first frame"
            ),
            holds("first_kept", why="a model would start without knowing what it is about to do"),
        ],
        "episodes": [
            equal("verdicts", "frames", why="verdicts and annotated episodes do not match"),
        ],
        "dataset": [between("retention", low=low, high=high, why="prune.min_ and max_retention")],
        "tasks": [
            between("kept", low=1, why="a task lost all its reasoning"),
            soft(between("events", low=1, why="a task kept nothing but first frames")),
        ],
    }


def tables(out: Path, params: Params, annotated: Path) -> Tables:
    """Verdicts; their counts per episode beside those of `annotated`; shares; counts per task."""
    frames = pd.read_parquet(out / "verdicts.parquet")
    found = {"explained", "first_kept", "kept", "events"}
    if {"frame_index", "scene", "action", "keep"} <= set(frames):
        for name in ("scene", "action", "keep"):
            frames[name] = pd.to_numeric(frames[name], errors="coerce").astype(float)
        first = frames["frame_index"] == 0
        kept = frames["keep"] == 1
        seen = (frames["scene"] == 1) | (frames["action"] == 1)
        frames["explained"] = (~kept | seen | first).astype(int)
        frames["first_kept"] = (kept | ~first).astype(int)
        frames["kept"] = kept.astype(int)
        frames["events"] = (kept & ~first).astype(int)
    share = frames["kept"].mean() if "kept" in frames and len(frames) else 0.0
    name = episodes.read(annotated).name
    result = {
        "frames": frames.drop(columns=[c for c in ("kept", "events") if c in frames]),
        "episodes": _episodes(frames, annotated),
        "dataset": pd.DataFrame({"dataset": [name], "retention": [float(share)]}),
        "tasks": pd.DataFrame({"item": [], "kept": [], "events": []}),
    }
    if found | {"task"} <= set(frames):
        tasks = frames.groupby("task", sort=True)[["kept", "events"]].sum().reset_index()
        result["tasks"] = tasks.rename(columns={"task": "item"})
    return result


def _episodes(frames: pd.DataFrame, annotated: Path) -> pd.DataFrame:
    """Frames of each episode, annotated and judged."""
    key = KEY[:2]
    truth = episodes.read(annotated).episodes[[*key, "length"]].rename(columns={"length": "frames"})
    if not set(key) <= set(frames):
        return truth
    judged = frames.groupby(key, sort=True).size().rename("verdicts").reset_index()
    return truth.merge(judged, on=key, how="outer").fillna({"frames": 0, "verdicts": 0})
