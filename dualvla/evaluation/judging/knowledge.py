"""The knowledge base: rated trajectories that the llm judge is shown as examples.

The paper gives its judge the nearest of 100 diverse trajectories, rated before and refined by
people. A folder holds them:

    knowledge.json   schema, rubric, how many
    index.parquet    a row a trajectory: description, ratings, whether a person reviewed them,
                     names and SHA-256 of its pictures
    frames/*.jpg     first, middle and last picture of each
    review.csv       for people: ratings to accept or edit (review.py)

Its version is the hash of the index, which holds those of the pictures, so ratings given with one
version can be told from ratings given with another. Embeddings are computed when it is opened: they
are cheap, and nothing can be stale. Everything is checked then, before any question is paid for.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation import simpler, vla_score
from dualvla.evaluation.judging import answers, cases, embeddings, frames, prompts, rubric
from dualvla.evaluation.judging.cases import Case
from dualvla.evaluation.judging.embeddings import Space

SCHEMA = 1
COUNT = 100  # trajectories, as in the paper
INDEX, ABOUT, FRAMES = "index.parquet", "knowledge.json", "frames"
RATINGS = vla_score.RATINGS
_NAME = re.compile(r"[\w.+-]+\.jpg")


@dataclass(frozen=True, eq=False)
class Knowledge:
    """An open knowledge base."""

    root: Path
    index: pd.DataFrame

    @property
    def version(self) -> str:
        """First twelve digits of its hash."""
        return version_of(self.index)

    def to_json(self) -> dict[str, Any]:
        """What a summary says of it."""
        reviewed = int(self.index["reviewed"].sum())
        return {"version": self.version, "trajectories": len(self.index), "reviewed": reviewed}

    def nearest(self, case: Case, speaks: bool, count: int) -> list[dict[str, Any]]:
        """Rows of the trajectories most like a case, nearest first; never of its own start.

        Only those rated on the same scale: a specialist's example would teach an answer of another
        form.
        """
        if case.film is None:
            raise frames.UnreadableError("no video")
        film = case.film(_three(len(case.clip.environment)))
        near = self._space.near(_words(case), film)
        own = _start("/".join(case.key[1:]))
        same = [_start(str(name).split("/", 2)[2]) == own for name in self.index["id"]]
        usable = (self.index["r"].notna() == speaks).to_numpy() & ~np.array(same, bool)
        chosen = embeddings.nearest(np.where(usable, near, -np.inf), count)
        rows = self.index.to_dict("records")
        return [{str(k): v for k, v in rows[at].items()} for at in chosen if usable[at]]

    def example(self, row: dict[str, Any], speaks: bool) -> tuple[list[prompts.Part], str]:
        """A row as a question and its answer."""
        pictures = [(self.root / FRAMES / name).read_bytes() for name in row["frames"]]
        given: dict[str, Any] = {
            "rationale": row["note"] or "As rated before.",
            "action": int(row["a"]),
            "intention": int(row["i"]),
            "failures": [name for name in str(row["failures"]).split("; ") if name],
        }
        kind = answers.Speaking if speaks else answers.Acting
        if speaks:
            given |= {"reasoning": int(row["r"]), "alignment": int(row["ra"])}
        answer = kind.model_validate(given).model_dump_json()
        return prompts.shown(row["description"], row["steps"], pictures), answer

    @cached_property
    def _space(self) -> Space:
        films = [
            [np.asarray(Image.open(self.root / FRAMES / name)) for name in names]
            for names in self.index["frames"]
        ]
        return Space.of(list(self.index["words"]), films)


def build(sources: Sequence[tuple[Path, Path]], out: Path, count: int = COUNT) -> Knowledge:
    """Write a knowledge base from evaluations and their scores.

    Args:
        sources: pairs of results/evaluate/MODEL and results/score/MODEL.
        out: folder to write.
        count: trajectories kept at most: the most diverse.

    Raises:
        UserError: a folder without the files of its stage, a damaged video, or no rated trajectory
            with a video.
    """
    candidates: list[tuple[dict[str, Any], list[bytes]]] = []
    films: list[list[Any]] = []
    for evaluation, scores in sources:
        evaluated = cases.read(evaluation)
        rated = _scores(scores)
        for case in evaluated.cases:
            if case.film is None or case.key not in rated:
                continue
            steps = _three(len(case.clip.environment))
            try:
                film = case.film(steps)
            except frames.UnreadableError as error:
                where = str(evaluation / "videos")
                raise UserError(str(error), where=where, fix="evaluate again") from error
            films.append(film)
            pictures = [frames.jpeg(picture) for picture in film]
            candidates.append((_row(case, rated[case.key], steps, pictures), pictures))
    if not candidates:
        fix = "evaluate with evaluate.videos_per_task above 0, then score"
        raise UserError("no rated trajectory with a video", where=str(sources[0][0]), fix=fix)
    space = Space.of([row["words"] for row, _ in candidates], films)
    chosen = embeddings.diverse(space.all_pairs(), count)
    kept = sorted((candidates[at] for at in chosen), key=lambda item: item[0]["id"])
    with files.replacing(out) as beside:
        (beside / FRAMES).mkdir(parents=True)
        for row, pictures in kept:
            for name, picture in zip(row["frames"], pictures, strict=True):
                (beside / FRAMES / name).write_bytes(picture)
        write_index(beside, pd.DataFrame([row for row, _ in kept]))
    return load(out)


def write_index(root: Path, index: pd.DataFrame) -> None:
    """Write the index and what the folder says of itself."""
    typed = index.astype(dict.fromkeys(RATINGS, "Int8"))
    about = {"schema": SCHEMA, "rubric": rubric.current().to_json(), "version": version_of(typed)}
    with files.replacing(root / INDEX) as beside:
        typed.to_parquet(beside, index=False)
    files.write_json(root / ABOUT, about)


def load(root: Path | str, version: str | None = None) -> Knowledge:
    """Open and check a knowledge base.

    Args:
        root: its folder.
        version: the one wanted; None: any.

    Raises:
        UserError: no knowledge base, another schema, rubric or version, a picture that is missing
            or changed, or a rating that is none.
    """
    root = Path(root)
    again = "build it anew: dualvla judge build"
    about = files.read_json(root / ABOUT) if (root / ABOUT).is_file() else None
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise UserError(f"no knowledge base of schema {SCHEMA}", where=str(root), fix=again)
    try:
        index = pd.read_parquet(root / INDEX)
    except (OSError, ValueError) as error:
        raise UserError("unreadable", where=str(root / INDEX), fix=again) from error
    if about.get("rubric") != rubric.current().to_json():
        what = f"rated by another rubric, not version {rubric.current().version}"
        raise UserError(what, where=str(root), fix=again)
    for row in index.to_dict("records"):
        for name, sha256 in zip(row["frames"], row["frames_sha256"], strict=True):
            path = root / FRAMES / name
            if not _NAME.fullmatch(name) or not path.is_file():
                what = f"the picture {name} of {row['id']} is missing"
                raise UserError(what, where=str(root / FRAMES), fix=again)
            if files.sha256(path) != sha256:
                what = f"the picture {name} of {row['id']} has changed"
                raise UserError(what, where=str(root / FRAMES), fix=again)
    found = Knowledge(root, index)
    if version is not None and found.version != version:
        fix = f"score.knowledge: {root.as_posix()}@{found.version}"
        raise UserError(f"version {found.version}, not {version}", where=str(root), fix=fix)
    return found


def version_of(index: pd.DataFrame) -> str:
    """Hash of all rows, first twelve digits."""
    plain = index.astype(object).where(index.notna(), None) if len(index) else index
    rows = [
        {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in row.items()}
        for row in plain.to_dict("records")
    ]
    text = json.dumps(rows, sort_keys=True, default=int)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _row(
    case: Case, rated: dict[str, Any], steps: list[int], pictures: Sequence[bytes]
) -> dict[str, Any]:
    name = "/".join((rated["model"], *case.key))
    stem = re.sub(r"[^\w.+-]", "_", name)
    return {
        "id": name,
        "words": _words(case),
        "description": prompts.describe(case, not pd.isna(rated["r"])),
        "success": case.success,
        **{key: None if pd.isna(rated[key]) else int(rated[key]) for key in RATINGS},
        "failures": rated["failures"],
        "note": "",
        "reviewed": False,
        "steps": steps,
        "frames": [f"{stem}-{step}.jpg" for step in steps],
        "frames_sha256": [hashlib.sha256(picture).hexdigest() for picture in pictures],
    }


def _scores(folder: Path) -> dict[cases.Key, dict[str, Any]]:
    path = folder / "scores.parquet"
    if not path.is_file():
        fix = f"run the stage score@{folder.name}"
        raise UserError("no such file", where=str(path), fix=fix)
    table = pd.read_parquet(path)
    rows = table[table["status"] == "ok"].to_dict("records")
    return {tuple(str(row[name]) for name in simpler.KEY): row for row in rows}  # type: ignore[misc]


def _words(case: Case) -> str:
    """What is said in a trajectory: command and texts."""
    return f"{case.instruction}\n{prompts.texts(case.clip)}"


def _start(name: str) -> str:
    """A start by its name; a repeat of it (`official-00#1`) is the same start."""
    return name.partition("#")[0]


def _three(length: int) -> list[int]:
    """First, middle and last of `length` steps."""
    return [0, (length - 1) // 2, length - 1]
