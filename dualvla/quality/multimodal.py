"""Suite of data/multimodal: conversations, their pictures, and the dense labels of the scenes.

The two faults that flatter a benchmark silently are checked hardest: a held-out scene that was also
trained on, and questions whose answer can be guessed without looking.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from dualvla import files
from dualvla.config import Params
from dualvla.objects import SLOTS
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
    unique,
)
from dualvla.quality.demonstrations import CONTRAST

SPLITS = ("train", "heldout")
ANSWER_WORDS = 32
REACH = 1.5  # metres; no labelled thing is further from the robot's base
DOMINANCE = 0.6  # of one answer within questions answered by yes or no
PICTURES = 96  # decoded: enough to see a systematic fault, quick to do
IMAGE_TOKEN = "<image>"
LABELS = ("u", "v", "x", "y", "z", "yaw", "visible", "opening")


def checks(params: Params) -> Checks:
    """Expectations by table, with bounds from the parameters."""
    sizes = params.multimodal
    size = params.simulation.image_size
    return {
        "conversations": [
            rows("nothing to learn from", low=1),
            filled("item", "image", "scene", "kind", why="LLaVA's form, and who is who"),
            unique("item", why="a conversation's identity"),
            in_set("turns", values=[2], why="one question, one answer"),
            holds("roles", why="human asks, gpt answers"),
            holds("image_token", why="the question names its picture once"),
            holds("image_exists", why="a question about a picture that is not there"),
            between("question_words", low=1, why="an empty question"),
            between("answer_words", low=1, high=ANSWER_WORDS, why="empty, or no short answer"),
            holds("lower_case", why="the same answer would be spelled in two ways"),
        ],
        "scenes": [
            between("splits", low=1, high=1, why="a held-out scene was trained on"),
        ],
        "splits": [
            between("train_scenes", low=sizes.scenes, high=sizes.scenes, why="multimodal.scenes"),
            between(
                "heldout_scenes",
                low=sizes.heldout_scenes,
                high=sizes.heldout_scenes,
                why="multimodal.heldout_scenes",
            ),
        ],
        "kinds": [
            between("dominance", high=DOMINANCE, why="yes or no can be guessed without looking"),
        ],
        "labels": [
            rows("no dense labels", low=1),
            columns("image", "split", "object", *LABELS, why="the vision stem trains on them"),
            filled("image", "split", "object", "visible", why="a label of nothing"),
            in_set("split", values=list(SPLITS), why="trained on, or held out"),
            in_set("object", values=list(SLOTS), why="objects.SLOTS"),
            unique("item", why="a thing labelled twice in one picture"),
            holds("split_agrees", why="labels of a held-out scene were trained on"),
            holds("image_exists", why="a label of a picture that is not there"),
            between("visible", "opening", low=0, high=1, why="shares"),
            filled("u_seen", "v_seen", why="a visible thing without a place"),
            between("u_seen", "v_seen", low=0, high=1, why="share of image width and height"),
            between("x", "y", "z", low=-REACH, high=REACH, why="metres, robot base frame"),
        ],
        "pictures": [
            rows("no pictures", low=1),
            filled("item", why="a picture without a name"),
            unique("item", why="a picture's name"),
        ],
        "samples": [
            holds("decoded", why="a damaged picture"),
            between("contrast", low=CONTRAST, why="a picture of one colour: nothing was rendered"),
            in_set("width", "height", values=[size], why="simulation.image_size"),
        ],
    }


def tables(out: Path, params: Params) -> Tables:
    """Conversations of both splits, scenes, yes-or-no kinds, labels, pictures, samples of them."""
    shards = sorted((out / "images").glob("shard-*.parquet"))
    names = [
        n for shard in shards for n in pq.read_table(shard, columns=["name"])["name"].to_pylist()
    ]
    talks = {split: files.read_json(out / f"{split}.json") for split in SPLITS}
    labels = pd.read_parquet(out / "scenes.parquet")
    sizes = {
        f"{split}_scenes": len({str(t.get("scene")) for t in talks[split]}) for split in SPLITS
    }
    decoded = list(_decoded(shards, len(names)))
    return {
        "conversations": _conversations(talks, set(names)),
        "scenes": _scenes(talks),
        "splits": pd.DataFrame([{"item": "both"} | sizes]),
        "kinds": _kinds(talks),
        "labels": _labels(labels, set(names), talks),
        "pictures": pd.DataFrame({"item": names}),
        "samples": pd.DataFrame(decoded, columns=["item", *episodes.picture(None)]),
    }


def _conversations(talks: dict[str, list[dict[str, Any]]], names: set[str]) -> pd.DataFrame:
    """One row a conversation; `dataset` is its split, `item` its id."""
    found = []
    for split in SPLITS:
        for talk in talks[split]:
            turns = talk.get("conversations") or []
            question, answer = _question(talk), _answer(talk)
            found.append(
                {
                    "dataset": split,
                    "item": talk.get("id"),
                    "image": talk.get("image"),
                    "scene": talk.get("scene"),
                    "kind": talk.get("kind"),
                    "turns": len(turns),
                    "roles": int([turn.get("from") for turn in turns] == ["human", "gpt"]),
                    "image_token": int(question.count(IMAGE_TOKEN) == 1),
                    "image_exists": int(Path(str(talk.get("image"))).name in names),
                    "question_words": text.words(question.replace(IMAGE_TOKEN, "")),
                    "answer_words": text.words(answer),
                    "lower_case": int(answer == answer.lower()),
                }
            )
    return pd.DataFrame(found)


def _scenes(talks: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """One row a scene: in how many splits it is, and how often it is asked about."""
    found: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        for talk in talks[split]:
            counts = found.setdefault(str(talk.get("scene")), dict.fromkeys(SPLITS, 0))
            counts[split] += 1
    table = [
        {"item": scene, "splits": sum(n > 0 for n in counts.values())} | counts
        for scene, counts in sorted(found.items())
    ]
    return pd.DataFrame(table, columns=["item", "splits", *SPLITS])


def _kinds(talks: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """One row a kind of question that is answered by yes or no."""
    answers: dict[str, list[str]] = {}
    for talk in talks["train"]:
        answers.setdefault(str(talk.get("kind")), []).append(_answer(talk))
    table = [
        {"item": kind, "dominance": text.dominance(found)}
        for kind, found in sorted(answers.items())
        if set(found) <= {"yes", "no"}
    ]
    return pd.DataFrame(table, columns=["item", "dominance"])


def _labels(
    table: pd.DataFrame, names: set[str], talks: dict[str, list[dict[str, Any]]]
) -> pd.DataFrame:
    """Dense labels; `u_seen` and `v_seen` are 0 where the thing is hidden."""
    if {"image", "split"} <= set(table):
        asked = {split: {str(talk.get("image")) for talk in talks[split]} for split in SPLITS}
        other = dict(zip(SPLITS, reversed(SPLITS), strict=True))
        table["split_agrees"] = [
            int(str(image) not in asked.get(other.get(split, ""), set()))
            for image, split in zip(table["image"], table["split"], strict=True)
        ]
    if {"image", "object"} <= set(table):
        table["item"] = table["image"].astype(str) + " " + table["object"].astype(str)
        table["image_exists"] = [int(Path(str(name)).name in names) for name in table["image"]]
    for axis in ("u", "v"):
        if {axis, "visible"} <= set(table):
            table[f"{axis}_seen"] = table[axis].where(table["visible"] > 0, 0.0)
    return table


def _decoded(shards: list[Path], total: int) -> Iterator[dict[str, Any]]:
    """Pictures spread evenly over the shards, decoded."""
    step = max(1, total // PICTURES)
    start = 0
    for shard in shards:
        file = pq.ParquetFile(shard)
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            chosen = [row for row in range(count) if (start + row) % step == 0]
            start += count
            if chosen:
                for row in file.read_row_group(group).take(chosen).to_pylist():
                    yield {"item": row.get("name")} | episodes.picture(row.get("bytes"))


def _question(talk: dict[str, Any]) -> str:
    turns = talk.get("conversations") or [{}]
    return str(turns[0].get("value") or "")


def _answer(talk: dict[str, Any]) -> str:
    turns = talk.get("conversations") or [{}]
    return str(turns[-1].get("value") or "") if len(turns) > 1 else ""
