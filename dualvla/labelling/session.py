"""One sitting at the labels of one data set: what a page may ask for and change.

It knows nothing of HTTP. Every change is on disk before the answer goes out, so that a closed tab
or a killed process loses nothing; undo therefore writes too. If the file has changed on disk
meanwhile (a `git pull`, a second sitting), the change is refused rather than the other's work
overwritten. Curves of speed and gripper are hints for the eye, from states alone.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualvla import paths, workspace
from dualvla.data.lerobot import CAMERA, STATE, Dataset, open_dataset
from dualvla.errors import UserError
from dualvla.labelling import labels
from dualvla.labelling.labels import Episode, Labels

KEPT = 3  # episodes whose encoded pictures stay in memory


class Session:
    """Labels under way; methods may be called from several threads."""

    def __init__(self, dataset: Dataset, path: Path, chosen: Sequence[int] | None = None) -> None:
        """Open a data set beside a label file.

        Args:
            dataset: what is shown.
            path: label file, which need not exist.
            chosen: episode_index of the episodes shown; None for all.

        Raises:
            UserError: a damaged file, labels of another data set, an unknown episode.
        """
        self.dataset, self.path = dataset, path
        blank = labels.blank(dataset)
        self._blank = {one.episode_index: one for one in blank}
        self._places = {one.episode_index: place for place, one in enumerate(blank)}
        unknown = [index for index in chosen or () if index not in self._blank]
        if unknown:
            what = f"no episode {unknown[0]}"
            fix = f"episodes go from {min(self._blank)} to {max(self._blank)}"
            raise UserError(what, where=str(dataset.root), fix=fix)
        self.chosen = tuple(sorted(self._blank) if chosen is None else chosen)
        self.labels = labels.read(path)
        labels.check(self.labels, dataset.name, self._blank, str(path))
        self._states = dataset.column(STATE)
        self._past: list[tuple[int, int, Labels]] = []  # episode, frame, labels before a change
        self._pictures: dict[int, list[bytes]] = {}
        self._lock = threading.Lock()

    def overview(self) -> dict[str, Any]:
        """The data set and one line an episode."""
        tasks = self.dataset.episodes["task"]
        return {
            "dataset": self.dataset.name,
            "path": str(self.path),
            "episodes": [
                {"instruction": str(tasks[self._places[index]]), **self._marks(index)}
                for index in self.chosen
            ],
        }

    def episode(self, index: int) -> dict[str, Any]:
        """Instruction, marks and curves of an episode; KeyError if it is not shown."""
        rows = self._rows(index)
        states = self._states[rows.start : rows.stop]
        fps = float(self.dataset.info["fps"])
        task = str(self.dataset.episodes["task"][self._places[index]])
        marks = self._marks(index) | {"instruction": task, "fps": fps}
        curves = {"speed": speeds(states, fps), "gripper": states[:, 6]}
        return marks | {name: np.round(v, 4).tolist() for name, v in curves.items()}

    def picture(self, index: int, frame: int) -> bytes:
        """An encoded picture; KeyError for an episode or frame that is not shown."""
        rows = self._rows(index)
        if not 0 <= frame < len(rows):
            raise KeyError(frame)
        with self._lock:
            if index not in self._pictures:
                while len(self._pictures) >= KEPT:
                    del self._pictures[next(iter(self._pictures))]
                self._pictures[index] = self.dataset.images(CAMERA, rows)
            return self._pictures[index][frame]

    def toggle(self, index: int, frame: int) -> dict[str, Any]:
        """Mark a frame or take its mark away; KeyError as `picture`, UserError for the first."""
        return self._change(index, frame, lambda one: labels.toggle(one, frame))

    def done(self, index: int, frame: int) -> dict[str, Any]:
        """Declare an episode labelled, or take that back; `frame` is where undo will lead."""
        return self._change(index, frame, lambda one: one.model_copy(update={"done": not one.done}))

    def undo(self) -> dict[str, Any] | None:
        """Take the last change of this sitting back; None if there is none."""
        with self._lock:
            if not self._past:
                return None
            index, frame, before = self._past[-1]
            self._save(before)
            self._past.pop()
            return self._marks(index) | {"frame": frame}

    def _change(self, index: int, frame: int, edit: Callable[[Episode], Episode]) -> dict[str, Any]:
        if not 0 <= frame < len(self._rows(index)):
            raise KeyError(frame)
        with self._lock:
            before = self.labels
            after = before.put(self.dataset.name, edit(self._labels(index)))
            self._save(after)
            self._past.append((index, frame, before))
            return self._marks(index) | {"frame": frame}

    def _save(self, after: Labels) -> None:
        if labels.read(self.path) != self.labels:
            what = "the file has changed since this page was opened"
            raise UserError(what, where=str(self.path), fix="start `dualvla label` again")
        labels.write(self.path, after)
        self.labels = after

    def _rows(self, index: int) -> range:
        if index not in self.chosen:
            raise KeyError(index)
        return self.dataset.rows(self._places[index])

    def _labels(self, index: int) -> Episode:
        return self.labels.find(index) or self._blank[index]

    def _marks(self, index: int) -> dict[str, Any]:
        return self._labels(index).model_dump(
            mode="json", include={"episode_index", "frames", "boundaries", "done"}
        )


def begin(root: Path | None, out: Path | None, episodes: str | None) -> Session:
    """Open the data set and label file that the command was given, or this project's.

    Raises:
        UserError: no project, no data set, or as `Session` and `parse_episodes`.
    """
    chosen = None if episodes is None else parse_episodes(episodes)
    project = Path() if root and out else workspace.find_root()
    if root is None:
        known = [project / folder for folder in (paths.ANNOTATED, paths.DEMONSTRATIONS)]
        root = next((folder for folder in known if folder.is_dir()), None)
        if root is None:
            what, fix = "no data set to label", "run the demonstrations stage, or give --root"
            raise UserError(what, where=str(known[-1]), fix=fix)
    return Session(open_dataset(root), out or project / paths.LABELS, chosen)


def summary(session: Session) -> str:
    """What the labels amount to, in one line."""
    done, boundaries = labels.count(session.labels)
    of = f"of {len(session.dataset.episodes)} episodes of {session.dataset.name}"
    return f"{done} {of} labelled, with {boundaries} boundaries, in {session.path}"


def speeds(states: NDArray[np.floating], fps: float) -> NDArray[np.float64]:
    """How fast the gripper moves into each frame: (T,) metres a second from (T, 7) states."""
    steps = np.linalg.norm(np.diff(np.asarray(states[:, :3], np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], steps * fps])


def parse_episodes(text: str) -> list[int]:
    """`0-4,7` as [0, 1, 2, 3, 4, 7]; a `UserError` if it is something else."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last if dash else first]
        if not all(end.isascii() and end.isdigit() and len(end) < 8 for end in ends):
            raise UserError(f"{part!r} is no episode", where="--episodes", fix="such as 0-4,7")
        low, high = map(int, ends)
        if low > high:
            raise UserError(f"{part!r} is empty", where="--episodes", fix=f"such as {high}-{low}")
        found.update(range(low, high + 1))
    return sorted(found)
