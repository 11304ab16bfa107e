"""Event boundaries that people marked: one JSON file, a source that belongs into git.

A label's key is (dataset, episode_index, frame_index); one file holds one data set. Importing the
same data again may number its episodes anew, so each labelled episode also carries a digest of its
states and actions, and labels of an episode that is now another one are refused instead of being
trained on. Pictures are left out of the digest: the same episodes at another size keep their
labels. JSON rather than Parquet because two people's work then merges in git line by line, and
because a change of a label can be read; the price, size, is nothing at a few hundred episodes.
An episode counts only when a person said that it is done: no mark there means no event.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dualvla import files
from dualvla.errors import UserError

if TYPE_CHECKING:
    from dualvla.data.lerobot import Dataset

RELABEL = "label it anew (`dualvla label`), or take the file of this data set from git"


class Episode(BaseModel):
    """Labels of one episode."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    episode_index: int = Field(ge=0)
    frames: int = Field(ge=1)  # in the episode
    content: str  # digest of what was labelled
    boundaries: tuple[int, ...] = Field(default=(), strict=False)  # frame_index, rising
    done: bool = False

    @model_validator(mode="after")
    def _frames_exist(self) -> "Episode":
        for frame in self.boundaries:
            if not 1 <= frame < self.frames:
                last = self.frames - 1
                raise ValueError(
                    f"episode {self.episode_index} has no frame {frame} to mark, only 1 to {last}"
                )
        if any(a >= b for a, b in pairwise(self.boundaries)):
            raise ValueError(f"episode {self.episode_index}: boundaries do not rise")
        return self


class Labels(BaseModel):
    """A whole file; edits give a new one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    format: Literal[1] = Field(default=1, alias="schema")
    dataset: str | None = None  # None: nothing is labelled yet
    episodes: tuple[Episode, ...] = Field(default=(), strict=False)  # by episode_index

    @model_validator(mode="after")
    def _ordered(self) -> "Labels":
        if any(a.episode_index >= b.episode_index for a, b in pairwise(self.episodes)):
            raise ValueError("episodes are not in the order of episode_index, or one is twice")
        if self.episodes and self.dataset is None:
            raise ValueError("dataset is missing")
        return self

    def find(self, episode_index: int) -> Episode | None:
        """Labels of an episode, if anything was ever said of it."""
        return next((one for one in self.episodes if one.episode_index == episode_index), None)

    def put(self, dataset: str, episode: Episode) -> "Labels":
        """The file with one episode's labels replaced."""
        kept = [one for one in self.episodes if one.episode_index != episode.episode_index]
        kept = sorted([*kept, episode], key=lambda one: one.episode_index)
        return Labels(dataset=dataset, episodes=tuple(kept))


def toggle(episode: Episode, frame: int) -> Episode:
    """Mark a frame as boundary, or take the mark away.

    Raises:
        UserError: no such frame, or the first one.
    """
    if not 1 <= frame < episode.frames:
        what = f"episode {episode.episode_index} has no frame {frame} to mark"
        fix = f"frames 1 to {episode.frames - 1} can be; the first one keeps its text anyway"
        raise UserError(what, fix=fix)
    marked = tuple(sorted({*episode.boundaries} ^ {frame}))
    return episode.model_copy(update={"boundaries": marked})


def read(path: Path) -> Labels:
    """Read a label file; one that does not exist is empty.

    Raises:
        UserError: no JSON, another schema, a frame or episode that cannot be.
    """
    if not path.is_file():
        return Labels()
    data = files.read_json(path)
    try:
        return Labels.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = f"{place}: {first['msg']}" if place else str(first["msg"])
        raise UserError(what, where=str(path), fix="mend it, or restore it from git") from error


def write(path: Path, labels: Labels) -> None:
    """Write a label file whole; the same labels give the same bytes."""
    files.write_json(path, labels.model_dump(mode="json", by_alias=True))


def blank(dataset: "Dataset") -> list[Episode]:
    """An episode without marks for each of a data set, in its order."""
    from dualvla.data.lerobot import ACTION, STATE

    columns = [dataset.column(name).astype("<f4") for name in (STATE, ACTION)]
    found = []
    for place, index in enumerate(dataset.episodes["episode_index"]):
        rows = dataset.rows(place)
        digest = hashlib.sha256()
        for values in columns:
            digest.update(values[rows.start : rows.stop].tobytes())
        content = digest.hexdigest()[:16]
        found.append(Episode(episode_index=int(index), frames=len(rows), content=content))
    return found


def check(labels: Labels, name: str, episodes: Mapping[int, Episode], where: str) -> None:
    """Refuse labels that are not of this data set.

    Args:
        labels: to be checked.
        name: of the data set.
        episodes: its episodes as `blank` gives them, by episode_index.
        where: file of the labels.

    Raises:
        UserError: labels of another data set, of an unknown episode, or of one that has changed.
    """
    if labels.dataset not in (None, name):
        what = f"labels of data set {labels.dataset}, not of {name}"
        raise UserError(what, where=where, fix="keep them in another file, then `dualvla label`")
    for one in labels.episodes:
        there = episodes.get(one.episode_index)
        if there is None:
            what = f"labels of episode {one.episode_index}, which {name} does not have"
            raise UserError(what, where=where, fix=RELABEL)
        if one.frames != there.frames:
            what = f"episode {one.episode_index} of {name} has {there.frames} frames"
            raise UserError(f"{what}, its labels are of {one.frames}", where=where, fix=RELABEL)
        if one.content != there.content:
            what = f"episode {one.episode_index} of {name} is not the one that was labelled"
            raise UserError(what, where=where, fix=RELABEL)


def masks(path: Path, dataset: "Dataset") -> dict[int, NDArray[np.bool_]]:
    """Boundaries (T,) of the labelled (done) episodes of a data set, by their place in it.

    Raises:
        UserError: as `read` and `check`.
    """
    labels, episodes = read(path), blank(dataset)
    known = {one.episode_index: one for one in episodes}
    check(labels, dataset.name, known, str(path))
    places = {one.episode_index: place for place, one in enumerate(episodes)}
    return {places[one.episode_index]: _mask(one) for one in _done(labels)}


def count(labels: Labels) -> tuple[int, int]:
    """Labelled (done) episodes, and boundaries in them."""
    done = list(_done(labels))
    return len(done), sum(len(one.boundaries) for one in done)


def _done(labels: Labels) -> Iterator[Episode]:
    return (one for one in labels.episodes if one.done)


def _mask(episode: Episode) -> NDArray[np.bool_]:
    found = np.zeros(episode.frames, bool)
    found[list(episode.boundaries)] = True
    return found
