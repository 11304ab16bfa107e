"""The verdict: which frames keep their reasoning text, and the controls it is compared with.

A frame keeps its text only if both layers call it an event (DualVLA, data pruning). They seldom
peak at the very same frame, so the AND has a tolerance: the scene changes at the frame and the
motion within +-k frames of it. Keeping the motion's frames as well would be symmetric, but a
closed-loop arm changes its motion so often that most frames would stay. An episode's first frame
always keeps its text; without it a model would start without knowing what it is about to do.

Pruning never touches episodes. It yields a table keyed by (dataset, episode_index, frame_index),
and `keep_mask` turns that table into the mask of any arm, all arms at the same retention.
"""

import zlib
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualvla.config import Prune
from dualvla.errors import UserError
from dualvla.pruning.kinematics import action_scores

Rule = Literal["both", "scene_only", "kinematic_only", "random", "none"]

KEY = ["dataset", "episode_index", "frame_index"]
COLUMNS = [*KEY, "task", "scene_score", "scene", "action_score", "action", "keep"]


def within(events: NDArray[np.bool_], tolerance: int) -> NDArray[np.bool_]:
    """(N,) True where an event of `events` (N,) lies at most `tolerance` frames away."""
    near = events.copy()
    for shift in range(1, min(tolerance, len(events) - 1) + 1):
        near[shift:] |= events[:-shift]
        near[:-shift] |= events[shift:]
    return near


def both(scene: NDArray[np.bool_], action: NDArray[np.bool_], tolerance: int) -> NDArray[np.bool_]:
    """The AND of two layers of one episode: a scene event with a motion event within `tolerance`.

    With `tolerance` 0 it is the paper's AND; a greater one never drops a frame. The kept frame is
    the scene's peak, so that text stays as sparse as scenes are. The first frame is always True.
    """
    keep = scene & within(action, tolerance)
    keep[:1] = True
    return keep


def verdicts(
    dataset: str,
    episode_index: int,
    task: str,
    *,
    states: NDArray[np.floating],
    scene_score: NDArray[np.floating],
    scene: NDArray[np.bool_],
    params: Prune,
) -> pd.DataFrame:
    """Verdicts of one episode.

    Args:
        dataset: identity of the data set, part of every frame's key.
        episode_index: the episode's number in it.
        task: its task, for statistics and for the controls.
        states: (T, 7) conventions.STATE_NAMES.
        scene_score: (T,) of the scene layer, not negative.
        scene: (T,) its events.
        params: thresholds of the gripper and tolerance of the AND.

    Returns:
        T rows with `COLUMNS`, scores float32.
    """
    action_score = action_scores(states, params.gripper_low, params.gripper_high)
    action = action_score > 1.0
    columns = {
        "dataset": dataset,
        "episode_index": np.full(len(states), episode_index, np.int64),
        "frame_index": np.arange(len(states), dtype=np.int64),
        "task": task,
        "scene_score": scene_score.astype(np.float32),
        "scene": scene,
        "action_score": action_score.astype(np.float32),
        "action": action,
        "keep": both(scene, action, params.tolerance),
    }
    return pd.DataFrame(columns)[COLUMNS]


def keep_mask(table: pd.DataFrame, rule: Rule, seed: int) -> NDArray[np.bool_]:
    """Which rows of a verdict table keep their text under a rule.

    `both` is the table's verdict and `none` (no pruning) keeps all. The controls keep, in every
    task of every data set, exactly as many frames as `both`, among them the first of every episode:
    `random` draws the others; `scene_only` and `kinematic_only` take that layer's events first,
    the highest scores before the lower, and fill up by score if the layer has too few.

    Args:
        table: rows with `COLUMNS`, in any order; the mask does not depend on the order.
        rule: which control.
        seed: of `random`.

    Returns:
        (rows,) aligned with `table`.
    """
    if rule == "both":
        return table["keep"].to_numpy(bool)
    if rule == "none":
        return np.ones(len(table), bool)
    ordered = table.reset_index(drop=True).sort_values(KEY, kind="stable")
    mask = np.zeros(len(table), bool)
    for (dataset, task), rows in ordered.groupby(["dataset", "task"], sort=True):
        count = int(rows["keep"].sum())
        rank = [*_ranking(rows, rule, [seed, zlib.crc32(f"{dataset}\0{task}".encode())])]
        first = (rows["frame_index"] != 0).to_numpy()
        # np.lexsort sorts by its last key first: first frames, then the rule's ranking.
        order = np.lexsort((*rank, first))
        mask[rows.index.to_numpy()[order[:count]]] = True
    return mask


def require_retention(table: pd.DataFrame, params: Prune) -> None:
    """Raise a `UserError` if the verdict keeps a share of frames outside `params`' gate."""
    share = float(table["keep"].mean()) if len(table) else 0.0
    low, high = params.min_retention, params.max_retention
    if not low <= share <= high:
        what = f"{share:.1%} of frames keep their reasoning, allowed are {low:.1%} to {high:.1%}"
        fix = "run the stage prune with other thresholds, or move prune.min_ and max_retention"
        raise UserError(what, where="verdicts.parquet", fix=fix)


def retention(table: pd.DataFrame) -> dict[str, Any]:
    """Share of frames each layer and the verdict mark: overall, per task, per data set.

    Every share stands beside its numerator and `frames`, its denominator.
    """

    def share(rows: pd.DataFrame) -> dict[str, Any]:
        frames = len(rows)
        counts = {name: int(rows[name].sum()) for name in ("scene", "action", "keep")}
        counts["exact_and"] = int((rows["scene"] & rows["action"]).sum())
        counts["first"] = int((rows["frame_index"] == 0).sum())
        shares = {name: count / frames if frames else 0.0 for name, count in counts.items()}
        return {"frames": frames, "counts": counts, "shares": shares}

    return {
        "all": share(table),
        "task": {str(task): share(rows) for task, rows in table.groupby("task", sort=True)},
        "dataset": {str(name): share(rows) for name, rows in table.groupby("dataset", sort=True)},
    }


def _ranking(rows: pd.DataFrame, rule: Rule, entropy: list[int]) -> list[NDArray[Any]]:
    """Sort keys of the rows, least first, least important key first."""
    if rule == "random":
        return [np.random.default_rng(entropy).permutation(len(rows))]
    layer = {"scene_only": "scene", "kinematic_only": "action"}[rule]
    return [-rows[f"{layer}_score"].to_numpy(np.float64), ~rows[layer].to_numpy(bool)]
