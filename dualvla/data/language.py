"""What is said in a data set, read back from its language columns as plain text.

The only place that knows how a frame's reasoning is put together, so that training, pruning and the
judge see the same sentence. Texts are lower case, words and whole numbers, one line.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from dualvla.data import annotations, phrases
from dualvla.data.features import EVENTS, PERSISTENT
from dualvla.data.reading import Dataset
from dualvla.simulation.environments import TASKS

MAX_WORDS = 28  # of a frame's reasoning; text is decoded word by word at every decision

Kind = Literal["plain", "rewrite", "context"]
CommandKinds: dict[str, Kind] = {"task_aug": "rewrite", "context": "context"}


class Command(NamedTuple):
    """One way to tell the robot what to do."""

    kind: Kind
    text: str


class Conversation(NamedTuple):
    """A question about a frame's picture and its answer."""

    episode_index: int
    frame_index: int
    question: str
    answer: str


class Frame(NamedTuple):
    """What is said of one frame."""

    subtask: str
    move: str
    scene: str

    def text(self) -> str:
        """The reasoning in one line: `subtask: grasp the carrot ; move: down ; carrot at 34 60`."""
        move = self.move.removeprefix("move ")
        parts = (f"subtask: {self.subtask}", f"move: {move}", self.scene)
        return " ; ".join(part for part in parts if part)


def reasoning(dataset: Dataset) -> list[str]:
    """Reasoning of each frame, in order of rows: N texts of at most MAX_WORDS words.

    Raises:
        UserError: the data set has no language columns.
    """
    return [frame.text() for frame in frames(dataset)]


def frames(dataset: Dataset) -> list[Frame]:
    """Subtask, move and scene of each frame, in order of rows."""
    # Times are float32 on disk: half a frame of slack settles which row is in force.
    slack = 0.5 / float(dataset.info["fps"])
    times = dataset.column("timestamp") + slack
    events = dataset.language(EVENTS)
    found = []
    for episode, rows in enumerate(dataset.language(PERSISTENT)):
        active = {style: _timeline(rows, style) for style in ("subtask", "motion")}
        for row in dataset.rows(episode):
            now = {style: _at(line, float(times[row])) for style, line in active.items()}
            scene = dict(_pairs(next(events))).get(annotations.SCENE_QUESTION, "")
            found.append(Frame(now["subtask"], now["motion"], scene))
    return found


def commands(dataset: Dataset) -> list[list[Command]]:
    """Commands of each episode: the plain instruction first, then rewrites, then contexts.

    An episode without instruction has the plain command "" and no others.
    """
    plain = [str(task) for task in dataset.episodes["task"]]
    found = []
    for task, rows in zip(plain, dataset.language(PERSISTENT), strict=True):
        others = [
            Command(CommandKinds[row["style"]], row["content"])
            for row in rows
            if row["style"] in CommandKinds
        ]
        found.append([Command("plain", task), *others])
    return found


def conversations(dataset: Dataset) -> list[Conversation]:
    """Captions, questions and answers; each asks about the picture of its frame."""
    episodes, frame_indices = (dataset.column(f"{k}_index") for k in ("episode", "frame"))
    found = []
    for row, events in enumerate(dataset.language(EVENTS)):
        for question, answer in _pairs(events):
            if question != annotations.SCENE_QUESTION:
                key = int(episodes[row]), int(frame_indices[row])
                found.append(Conversation(*key, question, answer))
    return found


def plans(dataset: Dataset) -> list[str]:
    """The plan of each episode."""
    return [_at(_timeline(rows, "plan"), np.inf) for rows in dataset.language(PERSISTENT)]


def lexicon() -> list[str]:
    """Every sentence template about every known thing, sorted; the tokenizer's texts.

    Whole numbers 0 to 100 are in it as positions, so that each is one token.
    """
    texts = {*phrases.sentences(), *annotations.sentences()}
    texts |= {spec.instruction for spec in TASKS.values()}
    texts |= {f"carrot at {number} {100 - number}" for number in range(101)}
    texts |= {f"carrot at {number} {number}" for number in range(101)}
    example = phrases.parse("put carrot on plate")
    for kind in phrases.SUBTASKS:
        for move in ("move forward left", "move up close gripper", phrases.STILL):
            scene = "carrot at 34 60 ; plate at 80 21"
            texts.add(Frame(phrases.subtask(kind, example), move, scene).text())
    return sorted(texts)


def _timeline(rows: list[dict[str, Any]], style: str) -> list[tuple[float, str]]:
    return sorted((row["timestamp"], row["content"]) for row in rows if row["style"] == style)


def _at(timeline: list[tuple[float, str]], time: float) -> str:
    """The text in force at a time: the latest that began, or none."""
    begun = [text for start, text in timeline if start <= time]
    return begun[-1] if begun else ""


def _pairs(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for asked, answered in zip(rows[::2], rows[1::2], strict=True):
        yield asked["content"], answered["content"]
