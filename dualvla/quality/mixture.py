"""Suite of data/mixture: every sample has a source, no held-out one is trained on, shares as asked.

The index lists every sample once; only the kind of command a robot frame is shown is drawn here, so
its shares are compared with `params.mix`, among the frames that have such a command, within three
binomial standard errors. The multimodal share of a batch is training's business: here both kinds of
data must be there.
"""

import math
from pathlib import Path

import pandas as pd

from dualvla.config import Params
from dualvla.data import language, lerobot
from dualvla.quality import text
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

KEY = ("dataset", "episode_index", "frame_index")
COLUMNS = (
    "domain",
    *KEY,
    "conversation",
    "image",
    "kind",
    "command",
    "reasoning",
    "split",
)
KINDS = ("plain", "rewrite", "context")  # of robot commands
SLACK = 0.01  # of a share, beyond chance
TEXT_WORDS = 40

Episodes = dict[tuple[str, int], tuple[int, set[str]]]  # length, and kinds of command it has


def checks(params: Params) -> Checks:
    """Expectations by table."""
    told = holds("has_command", why="a sample without a command or a question")
    imported = params.demonstrations.source != "simulation"
    return {
        "samples": [
            rows("nothing to train on", low=1),
            columns(*COLUMNS, why="training reads them"),
            filled("domain", "dataset", "split", why="a sample without a source"),
            in_set("domain", values=["robot", "multimodal"], why="two kinds of data"),
            in_set("split", values=["train", "heldout"], why="trained on, or held out"),
            unique("domain", *KEY, "conversation", why="the same sample twice"),
            holds("has_source", why="robot: a frame; multimodal: a conversation and its picture"),
            holds("frame_exists", why="a frame that is not in the annotated data set"),
            holds("known_kind", why="plain, rewrite or context"),
            soft(told) if imported else told,
            between("words", low=1, high=TEXT_WORDS, why="text is decoded word by word"),
        ],
        "episodes": [
            between("splits", low=1, high=1, why="a held-out episode is trained on"),
            soft(holds("used", why="an annotated episode that no sample comes from")),
        ],
        "pictures": [between("splits", low=1, high=1, why="a held-out picture is trained on")],
        "shares": [between("excess", high=0, why="not the share that params.mix asks for")],
        "domains": [between("samples", low=1, why="one kind of data is not trained on at all")],
    }


def tables(out: Path, params: Params, annotated: Path) -> Tables:
    """Samples with derived columns; episodes and pictures by split; shares; samples by domain."""
    samples = pd.read_parquet(out / "mixture.parquet")
    known = _known(annotated)
    whole = set(COLUMNS) <= set(samples)
    if whole:
        _derive(samples, known)
    part = samples if whole else samples.iloc[:0].reindex(columns=COLUMNS)
    return {
        "samples": samples,
        "episodes": _episodes(part, known),
        "pictures": _pictures(part),
        "shares": _shares(part, params, known),
        "domains": _domains(part, params),
    }


def _known(annotated: Path) -> Episodes:
    """Length and kinds of command of every annotated episode."""
    dataset = lerobot.open_dataset(annotated)
    told = language.commands(dataset)
    table = dataset.episodes
    return {
        (dataset.name, int(index)): (int(length), {command.kind for command in commands})
        for index, length, commands in zip(
            table["episode_index"], table["length"], told, strict=True
        )
    }


def _derive(samples: pd.DataFrame, known: Episodes) -> None:
    """Add columns of 0 and 1, and the number of words of a text; without a text it is missing."""
    robot = samples["domain"] == "robot"
    lengths = {key: length for key, (length, _) in known.items()}
    exists, sourced = [], []
    for row in samples[["domain", *KEY, "conversation", "image"]].itertuples(index=False):
        domain, dataset, episode, frame, conversation, image = row
        numbered = pd.notna(episode) and pd.notna(frame) and episode >= 0
        length = lengths.get((dataset, int(episode)), 0) if numbered else 0
        exists.append(int(not numbered or 0 <= frame < length))
        asked = pd.notna(conversation) and (numbered or pd.notna(image))
        sourced.append(int(numbered if domain == "robot" else asked))
    samples["frame_exists"], samples["has_source"] = exists, sourced
    told = samples["command"].fillna("").astype(str).str.strip() != ""
    samples["has_command"] = told.astype(int)
    samples["known_kind"] = (samples["kind"].isin(KINDS) | ~robot).astype(int)
    counts = [None if pd.isna(said) else text.words(said) for said in samples["reasoning"]]
    samples["words"] = pd.to_numeric(pd.Series(counts, index=samples.index, dtype="object"))


def _episodes(samples: pd.DataFrame, known: Episodes) -> pd.DataFrame:
    """One row an episode: in how many splits it is, and whether it is used at all."""
    key = [*KEY[:2]]
    table = pd.DataFrame([[*pair] for pair in known], columns=key)
    shown = samples[samples["episode_index"].notna() & (samples["episode_index"] >= 0)]
    splits = shown.groupby(key, sort=True)["split"].nunique().rename("splits").reset_index()
    table = table.merge(splits.astype({"episode_index": "int64"}), on=key, how="outer")
    table["used"] = table["splits"].notna().astype(int)
    return table


def _pictures(samples: pd.DataFrame) -> pd.DataFrame:
    """One row a picture of the multimodal data: in how many splits it is."""
    shown = samples[samples["image"].notna()]
    splits = shown.groupby(["dataset", "image"], sort=True)["split"].nunique()
    return splits.rename("splits").reset_index().rename(columns={"image": "item"})


def _shares(samples: pd.DataFrame, params: Params, known: Episodes) -> pd.DataFrame:
    """One row a kind of command: `asked`, `share`, `excess` of their difference beyond chance."""
    robot = samples[(samples["domain"] == "robot") & (samples["split"] == "train")]
    found = []
    for kind, asked in (
        ("rewrite", params.mix.rewrite_share),
        ("context", params.mix.context_share),
    ):
        has = [kind in known.get((d, e), (0, ()))[1] for d, e in robot[[*KEY[:2]]].to_numpy()]
        hits = (robot[pd.Series(has, index=robot.index, dtype=bool)]["kind"] == kind).to_numpy()
        if len(hits):
            share = float(hits.mean())
            chance = 3 * math.sqrt(asked * (1 - asked) / len(hits))
            excess = max(0.0, abs(share - asked) - chance - SLACK)
            found.append({"item": kind, "asked": asked, "share": share, "excess": excess})
    return pd.DataFrame(found, columns=["item", "asked", "share", "excess"])


def _domains(samples: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Training samples of each kind of data that the shares ask for."""
    counts = samples[samples["split"] == "train"]["domain"].value_counts().to_dict()
    share = params.mix.multimodal_share
    wanted = [
        {"item": name, "samples": int(counts.get(name, 0))}
        for name, asked in (("robot", 1 - share), ("multimodal", share))
        if asked > 0
    ]
    return pd.DataFrame(wanted)
