import re

import pytest
import simulated_episodes as simulated

from dualvla.config import Annotate
from dualvla.data import annotations, language, lerobot
from dualvla.data.annotations import Episode
from dualvla.data.lerobot import ACTION, CAMERA, ENVIRONMENT, STATE
from dualvla.errors import UserError

PARAMS = Annotate(questions=2, rewrites=2, contexts=2)
TASKS = (
    "put carrot on plate",
    "put the spoon on the towel",
    "stack the green block on the yellow block",
    "put eggplant into yellow basket",
)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """The data set and the annotations that were written to it."""
    root = tmp_path_factory.mktemp("language") / "d"
    features = lerobot.simulation_features(16) | lerobot.LANGUAGE
    made = []
    with lerobot.Writer(root, 5, "widowx", features, simulated.ABOUT) as writer:
        for index, task in enumerate(TASKS):
            data = simulated.columns(index)
            episode = Episode(index, task, data[STATE], data[ACTION], data[ENVIRONMENT])
            made.append(annotations.annotate(episode, PARAMS, seed=0, dataset="simulation"))
            persistent, events = annotations.rows(made[-1], 5)
            images = {CAMERA: simulated.pictures()}
            writer.add(data, images, task, persistent=persistent, events=events)
    return lerobot.open_dataset(root), made


def test_every_frame_gets_back_what_was_written(annotated):
    data, made = annotated
    frames = language.frames(data)
    expected = [
        language.Frame(*parts)
        for one in made
        for parts in zip(one.subtasks, one.moves, one.scenes, strict=True)
    ]
    assert frames == expected
    assert language.plans(data) == [one.plan for one in made]


def test_reasoning_is_short_lower_case_and_of_words_and_integers(annotated):
    data, _ = annotated
    texts = language.reasoning(data)
    assert len(texts) == data.length
    for text in texts:
        assert len(re.findall(r"[a-z0-9]+", text)) <= language.MAX_WORDS
        assert re.fullmatch(r"[a-z0-9 :;]+", text)
    assert texts[0].startswith("subtask: reach for the carrot ; move: forward ; carrot at ")


def test_commands_begin_with_the_plain_one(annotated):
    data, made = annotated
    for task, commands, one in zip(TASKS, language.commands(data), made, strict=True):
        assert commands[0] == ("plain", task)
        assert tuple(text for kind, text in commands if kind == "rewrite") == one.rewrites
        assert tuple(text for kind, text in commands if kind == "context") == one.contexts


def test_conversations_ask_about_the_first_frame(annotated):
    data, made = annotated
    found = language.conversations(data)
    assert len(found) == len(TASKS) * (1 + PARAMS.questions)
    assert {talk.frame_index for talk in found} == {0}
    assert found[0] == (0, 0, annotations.CAPTION_QUESTION, made[0].caption)
    assert [(t.question, t.answer) for t in found[1:3]] == list(made[0].questions)


def test_rows_use_styles_that_lerobot_declares(annotated):
    data, _ = annotated
    persistent = next(iter(data.language(lerobot.PERSISTENT)))
    assert {row["style"] for row in persistent} <= {
        "plan",
        "subtask",
        "motion",
        "task_aug",
        "context",  # ours
    }
    assert all(row["camera"] is None for row in persistent)
    for rows in data.language(lerobot.EVENTS):
        assert {(row["style"], row["camera"]) for row in rows} == {("vqa", CAMERA)}


def test_lexicon_has_every_word_that_annotations_use(annotated):
    data, _ = annotated
    known = {word for text in language.lexicon() for word in text.split()}
    said = [*language.reasoning(data), *language.plans(data)]
    said += [command.text for commands in language.commands(data) for command in commands]
    said += [text for talk in language.conversations(data) for text in talk[2:]]
    assert {word for text in said for word in text.split()} <= known
    assert {str(number) for number in range(101)} <= known
    assert language.lexicon() == sorted(set(language.lexicon()))


def test_a_data_set_without_language_is_refused(tmp_path):
    data = lerobot.open_dataset(simulated.write(tmp_path / "d"))
    with pytest.raises(UserError, match="no column language_persistent"):
        language.reasoning(data)
