"""Suite of data/mixture: every sample has a source, no held-out one is trained on, shares as asked.

Shares are compared with `params.mix` within three binomial standard errors and 0.02, because they
are drawn; a share that misses by more is a fault of the drawing, not bad luck.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dualvla.config import Params
from dualvla.quality import episodes, text
from dualvla.quality.checks import (
    Checks,
    Tables,
    between,
    columns,
    filled,
    holds,
    in_set,
    rows,
    soft,
    unique,
)

COLUMNS = (
    "domain",
    "dataset",
    "episode_index",
    "frame_index",
    "conversation",
    "kind",
    "command",
    "reasoning",
    "split",
)
KINDS = ("plain", "rewrite", "context")  # of robot commands
SLACK = 0.02  # of a share, beyond chance
REASONING_WORDS = 40


def checks(params: Params) -> Checks:
    """Expectations by table."""
    return {
        "samples": [
            rows("nothing to train on", low=1),
            columns(*COLUMNS, why="training reads them"),
            filled("domain", "dataset", "split", why="a sample without a source"),
            in_set("domain", values=["robot", "multimodal"], why="two kinds of data"),
            in_set("split", values=["train", "heldout"], why="trained on, or held out"),
            unique(*COLUMNS[:7], why="the same sample twice"),
            holds("has_source", why="robot: an episode and a frame; multimodal: a conversation"),
            holds("frame_exists", why="a frame that is not in the annotated data set"),
            holds("has_command", why="a robot sample without a command"),
            holds("known_kind", why="plain, rewrite or context"),
            between("reasoning_words", low=1, high=REASONING_WORDS, why="empty or endless text"),
        ],
        "episodes": [
            between("splits", low=1, high=1, why="a held-out episode is trained on"),
            soft(holds("used", why="an annotated episode that no sample comes from")),
        ],
        "conversations": [
            between("splits", low=1, high=1, why="a held-out conversation is trained on"),
        ],
        "shares": [
            between("excess", high=0, why="the mixture is not what params.mix asks for"),
        ],
    }


def tables(out: Path, params: Params, annotated: Path) -> Tables:
    """Samples with derived columns, episodes and conversations by split, shares beside params."""
    samples = pd.read_parquet(out / "mixture.parquet")
    known = episodes.read(annotated)
    index, length = (known.episodes[name] for name in ("episode_index", "length"))
    keys = {(known.name, int(i)): int(n) for i, n in zip(index, length, strict=True)}
    if set(COLUMNS) <= set(samples):
        _derive(samples, keys)
    return {
        "samples": samples,
        "episodes": _episodes(samples, keys),
        "conversations": _conversations(samples),
        "shares": _shares(samples, params),
    }


def _derive(samples: pd.DataFrame, lengths: dict[tuple[str, int], int]) -> None:
    """Add the derived columns of 0 and 1, and the number of words of a reasoning text."""
    robot = samples["domain"] == "robot"
    frame = samples["episode_index"].notna() & samples["frame_index"].notna()
    samples["has_source"] = frame.where(robot, samples["conversation"].notna()).astype(int)
    found = [
        not is_robot or (pd.notna(place) and 0 <= place < lengths.get((name, episode), 0))
        for is_robot, name, episode, place in zip(
            robot, samples["dataset"], samples["episode_index"], samples["frame_index"], strict=True
        )
    ]
    samples["frame_exists"] = np.asarray(found, dtype=int)
    told = samples["command"].fillna("").astype(str).str.strip() != ""
    samples["has_command"] = (told | ~robot).astype(int)
    samples["known_kind"] = (samples["kind"].isin(KINDS) | ~robot).astype(int)
    # Without a text there is nothing to count: missing, which `between` leaves alone.
    samples["reasoning_words"] = samples["reasoning"].map(text.words, na_action="ignore")


def _episodes(samples: pd.DataFrame, lengths: dict[tuple[str, int], int]) -> pd.DataFrame:
    """One row an episode: in how many splits it is, and whether it is used at all."""
    key = ["dataset", "episode_index"]
    known = pd.DataFrame([[*pair] for pair in lengths], columns=key)
    if not {*key, "domain", "split"} <= set(samples):
        return known
    robot = samples[(samples["domain"] == "robot") & samples["episode_index"].notna()]
    splits = robot.groupby(key, sort=True)["split"].nunique().rename("splits").reset_index()
    table = known.merge(splits.astype({"episode_index": "int64"}), on=key, how="outer")
    table["used"] = table["splits"].notna().astype(int)
    return table


def _conversations(samples: pd.DataFrame) -> pd.DataFrame:
    """One row a conversation: in how many splits it is."""
    if not {"dataset", "conversation", "split"} <= set(samples):
        return pd.DataFrame()
    talks = samples[samples["conversation"].notna()]
    table = talks.groupby(["dataset", "conversation"], sort=True)["split"].nunique()
    return table.rename("splits").reset_index().rename(columns={"conversation": "item"})


def _shares(samples: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row a share of the training samples: `asked`, `share`, `excess` beyond the tolerance."""
    if not {"domain", "kind", "split"} <= set(samples):
        return pd.DataFrame()
    train = samples[samples["split"] == "train"]
    robot = train[train["domain"] == "robot"]
    mix, annotate = params.mix, params.annotate
    found = {
        "multimodal": (train["domain"] == "multimodal", mix.multimodal_share),
        "rewrite": (robot["kind"] == "rewrite", mix.rewrite_share if annotate.rewrites else 0.0),
        "context": (robot["kind"] == "context", mix.context_share if annotate.contexts else 0.0),
    }
    return pd.DataFrame([_share(name, *values) for name, values in found.items()])


def _share(name: str, hits: "pd.Series[bool]", asked: float) -> dict[str, Any]:
    share = float(hits.mean()) if len(hits) else 0.0
    chance = 3 * math.sqrt(asked * (1 - asked) / max(len(hits), 1))
    excess = max(0.0, abs(share - asked) - chance - SLACK)
    return {"item": name, "asked": asked, "share": share, "excess": excess}
