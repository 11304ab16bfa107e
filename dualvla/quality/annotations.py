"""Suite of data/annotated: something is said of every frame and episode, and it can be true.

Texts are read as training reads them (`data.language`), because what matters is the sentence that
reaches a model; the frames beneath are checked by the suite of demonstrations before. Imported
episodes have no positions and may have no instruction, hence no rewrites: there these are warnings.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from dualvla.config import Params
from dualvla.data import annotations, language, lerobot
from dualvla.data.features import EVENTS, PERSISTENT
from dualvla.quality import episodes, text
from dualvla.quality.checks import (
    Check,
    Checks,
    Tables,
    between,
    columns,
    equal,
    holds,
    rows,
    soft,
    unique,
)
from dualvla.quality.multimodal import ANSWER_WORDS, DOMINANCE

TEXT_WORDS = 40
TEXT_COLUMNS = ("subtask_words", "move_words", "text_words", "position_low", "position_high")


def checks(params: Params) -> Checks:
    """Expectations by table, with bounds from the parameters."""
    asked, simulated = params.annotate, params.demonstrations.source == "simulation"

    def known(check: Check) -> Check:
        return check if simulated else soft(check)

    def counted(name: str, count: int) -> list[Check]:
        why = f"annotate.{name}"
        return [
            between(name, high=count, why=why),
            known(between(name, low=count, why=f"{why}: fewer are known of this command")),
        ]

    return {
        "dataset": [
            columns(PERSISTENT, EVENTS, why="nothing was annotated"),
            equal("texts", "frames", why="one reasoning text a frame"),
        ],
        "frames": [
            rows("nothing was annotated", low=1),
            columns(*TEXT_COLUMNS, why="what is said of a frame"),
            unique("dataset", "episode_index", "frame_index", why="a frame's identity"),
            between("subtask_words", low=1, why="no subtask is in force at this frame"),
            between("move_words", low=1, why="no move is in force at this frame"),
            between("text_words", low=2, high=TEXT_WORDS, why="text is decoded word by word"),
            between("position_low", "position_high", low=0, high=100, why="percent of the image"),
            holds("one_line", "lower_case", why="a token of its own for the same word"),
            soft(between("things", low=1, why="no object's position is known at this frame")),
        ],
        "episodes": [
            between("plan_words", low=1, why="no plan"),
            known(between("caption_words", low=1, why="no caption")),
            *counted("rewrites", asked.rewrites),
            *counted("contexts", asked.contexts),
            *counted("questions", asked.questions),
            holds("rewrites_differ", why="a rewritten command is the command itself, or is twice"),
        ],
        "answers": [
            between("question_words", low=1, why="an empty question"),
            between("answer_words", low=1, high=ANSWER_WORDS, why="empty, or no short answer"),
        ],
        "kinds": [
            soft(between("dominance", high=DOMINANCE, why="yes or no can be guessed unseen")),
        ],
    }


def tables(out: Path, params: Params) -> Tables:
    """What is said of frames, of episodes, in answers; of the data set in one row."""
    folder = episodes.read(out)
    has = {name: 1 for name in (PERSISTENT, EVENTS) if name in folder.info["features"]}
    summary = {"dataset": folder.name, "frames": len(folder.table)} | has
    if len(has) < 2:
        blank = pd.DataFrame({"dataset": []})
        nothing = dict.fromkeys(("frames", "episodes", "answers", "kinds"), blank)
        return {"dataset": pd.DataFrame([summary | {"texts": 0}])} | nothing
    dataset = lerobot.open_dataset(out)
    texts, talks = language.frames(dataset), language.conversations(dataset)
    return {
        "dataset": pd.DataFrame([summary | {"texts": len(texts)}]),
        "frames": _frames(folder, texts),
        "episodes": _episodes(folder, dataset, talks),
        "answers": pd.DataFrame(
            [
                {
                    "dataset": folder.name,
                    "episode_index": talk.episode_index,
                    "frame_index": talk.frame_index,
                    "question_words": text.words(talk.question),
                    "answer_words": text.words(talk.answer),
                }
                for talk in talks
            ],
            columns=[*KEY, "question_words", "answer_words"],
        ),
        "kinds": _kinds(talks),
    }


KEY = ["dataset", "episode_index", "frame_index"]


def _frames(folder: episodes.Folder, texts: list[language.Frame]) -> pd.DataFrame:
    """One row a frame; positions are missing where a text names none."""
    table = episodes.frames(folder)[KEY]
    found: list[dict[str, Any]] = []
    for frame in texts:
        line, numbers = frame.text(), text.positions(frame.scene)
        found.append(
            {
                "subtask_words": text.words(frame.subtask),
                "move_words": text.words(frame.move),
                "text_words": text.words(line),
                "position_low": min(numbers, default=None),
                "position_high": max(numbers, default=None),
                "things": len(numbers) // 2,
                "one_line": int("\n" not in line and line == line.strip()),
                "lower_case": int(line == line.lower()),
            }
        )
    said = pd.DataFrame(found)
    for name in ("position_low", "position_high"):
        said[name] = pd.to_numeric(said[name])
    return table.join(said)


def _episodes(
    folder: episodes.Folder, dataset: lerobot.Dataset, talks: list[language.Conversation]
) -> pd.DataFrame:
    """One row an episode: words of plan and caption, how many rewrites, contexts, questions."""
    captions: dict[int, str] = {}
    questions: dict[int, int] = {}
    for talk in talks:
        if talk.question == annotations.CAPTION_QUESTION:
            captions[talk.episode_index] = talk.answer
        else:
            questions[talk.episode_index] = questions.get(talk.episode_index, 0) + 1
    found = []
    told = zip(dataset.episodes["episode_index"], language.plans(dataset), strict=True)
    for (episode, plan), commands in zip(told, language.commands(dataset), strict=True):
        plain = [c.text.strip().lower() for c in commands if c.kind == "plain"]
        rewrites = [c.text.strip().lower() for c in commands if c.kind == "rewrite"]
        found.append(
            {
                "dataset": folder.name,
                "episode_index": int(episode),
                "plan_words": text.words(plan),
                "caption_words": text.words(captions.get(int(episode), "")),
                "rewrites": len(rewrites),
                "contexts": sum(c.kind == "context" for c in commands),
                "questions": questions.get(int(episode), 0),
                "rewrites_differ": int(len({*plain, *rewrites}) == len(plain) + len(rewrites)),
            }
        )
    return pd.DataFrame(found)


def _kinds(talks: list[language.Conversation]) -> pd.DataFrame:
    """The questions that are answered by yes or no, as one row."""
    answers = [talk.answer for talk in talks if talk.answer in ("yes", "no")]
    dominance = [text.dominance(answers)] if answers else []
    return pd.DataFrame({"item": ["yes or no"] * len(dominance), "dominance": dominance})
