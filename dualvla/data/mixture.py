"""The mixture: one index of everything a generalist trains on.

One row a robot frame, with the command it is shown (plain, rewritten or a created context) and its
reasoning text, and one row a question, from the multimodal data and from the episodes' own captions
and questions. Rows are never shuffled or repeated here: order and shares of a batch belong to
training. Episodes are held out whole, questions by scene.
"""

from typing import Any

import numpy as np
import pandas as pd

from dualvla.config import Mix
from dualvla.data import language
from dualvla.data.conversations import Conversation
from dualvla.data.lerobot import Dataset
from dualvla.errors import UserError

COLUMNS = (
    "domain",  # robot | multimodal
    "dataset",
    "episode_index",
    "frame_index",
    "conversation",  # id of a question; null for robot frames
    "image",  # picture of a question, null where it is the frame itself
    "kind",  # robot: plain | rewrite | context; multimodal: kind of question
    "command",  # robot: what the policy is told; multimodal: the question
    "reasoning",  # robot: the annotated text; multimodal: the answer
    "split",  # train | heldout
)


def held_out(episodes: int, share: float, seed: int) -> np.ndarray:
    """Which episodes are held out, (episodes,) bool: at least one, never all."""
    if episodes < 2:
        return np.zeros(episodes, bool)
    count = min(max(1, round(share * episodes)), episodes - 1)
    out = np.zeros(episodes, bool)
    out[np.random.default_rng([seed, 0x4D4958]).permutation(episodes)[:count]] = True
    return out


def build(
    dataset: Dataset,
    asked: dict[str, list[Conversation]],
    mix: Mix,
    seed: int,
    multimodal_name: str = "multimodal",
) -> pd.DataFrame:
    """The index of a data set with language columns and of multimodal conversations by split.

    Returns:
        A frame with `COLUMNS`, sorted by domain, data set and identity.
    """
    rows: list[dict[str, Any]] = []
    texts, commands = language.reasoning(dataset), language.commands(dataset)
    told: dict[int, list[language.Conversation]] = {}
    for spoken in language.conversations(dataset):
        told.setdefault(spoken.episode_index, []).append(spoken)
    out = held_out(len(dataset.episodes), mix.heldout_share, seed)
    for episode in range(len(dataset.episodes)):
        split = "heldout" if out[episode] else "train"
        by_kind: dict[str, list[str]] = {}
        for given in commands[episode]:
            by_kind.setdefault(given.kind, []).append(given.text)
        key = {"dataset": dataset.name, "episode_index": episode, "split": split}
        for frame, row in enumerate(dataset.rows(episode)):
            draw = np.random.default_rng([seed, episode, frame])
            kind = _kind(by_kind, mix, float(draw.random()))
            command = by_kind[kind][int(draw.integers(len(by_kind[kind])))]
            shown = {"kind": kind, "command": command, "reasoning": texts[row]}
            rows.append({"domain": "robot", **key, "frame_index": frame, **shown})
        for number, spoken in enumerate(told.get(episode, [])):
            place = {
                "conversation": f"{dataset.name}-{episode:06d}-{number}",
                "frame_index": spoken.frame_index,
            }
            shown = {"kind": "episode", "command": spoken.question, "reasoning": spoken.answer}
            rows.append({"domain": "multimodal", **key, **place, **shown})
    for split, conversations in asked.items():
        for c in conversations:
            key = {"dataset": multimodal_name, "episode_index": -1, "frame_index": -1}
            shown = {"kind": c.kind, "command": c.question, "reasoning": c.answer}
            place = {"conversation": c.id, "image": c.image, "split": split}
            rows.append({"domain": "multimodal", **key, **place, **shown})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _kind(available: dict[str, list[str]], mix: Mix, u: float) -> str:
    if u < mix.rewrite_share and "rewrite" in available:
        return "rewrite"
    if mix.rewrite_share <= u < mix.rewrite_share + mix.context_share and "context" in available:
        return "context"
    return "plain"


def counts(table: pd.DataFrame) -> dict[str, Any]:
    """Rows by split, domain and kind."""
    grouped = table.groupby(["split", "domain", "kind"]).size().reset_index(name="count")
    result: dict[str, Any] = {}
    for row in grouped.to_dict("records"):
        part = result.setdefault(row["split"], {}).setdefault(row["domain"], {})
        part[row["kind"]] = int(row["count"])
    return result


def kept(
    robot: pd.DataFrame, verdicts: pd.DataFrame, mask: np.ndarray, *, keep_free_form: bool
) -> np.ndarray:
    """Which robot rows of a mixture keep their text, (rows,) bool.

    Args:
        robot: robot rows of the index.
        verdicts: pruning verdicts, one a frame.
        mask: (verdicts,) frames that keep their text under the arm's rule.
        keep_free_form: rows whose command is rewritten or a context keep it whatever the mask.

    Raises:
        UserError: a row's frame has no verdict.
    """
    key = ["dataset", "episode_index", "frame_index"]
    judged = verdicts[key].assign(kept=mask)
    found = robot[key].merge(judged, on=key, how="left", validate="many_to_one")["kept"]
    if found.isna().any():
        row = robot.iloc[int(np.flatnonzero(found.isna())[0])]
        where = f"{row['dataset']}, episode {row['episode_index']}, frame {row['frame_index']}"
        raise UserError("no pruning verdict for this frame", where=where, fix="run the stage prune")
    result = found.to_numpy(bool)
    if keep_free_form:
        result = result | (robot["kind"] != "plain").to_numpy()
    return result


def require_text(robot: pd.DataFrame, keep: np.ndarray, arm: str) -> None:
    """Raise a `UserError` if an arm would train on no reasoning text at all.

    Args:
        robot: robot rows of the index.
        keep: (rows,) which keep their text.
        arm: for the message.
    """
    text = robot["reasoning"].fillna("").astype(str).str.len().to_numpy() > 0
    if not (keep & text & (robot["split"] == "train").to_numpy()).any():
        what = f"arm {arm}: no robot frame for training keeps its reasoning"
        fix = "loosen the thresholds of prune, or keep text of free-form instructions"
        raise UserError(what, where="mixture.parquet, verdicts.parquet", fix=fix)
