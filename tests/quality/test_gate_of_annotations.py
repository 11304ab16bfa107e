"""The gate of annotations: something is said of every frame and episode, and it can be true."""

import pytest

from dualvla import config, quality
from dualvla.files import read_json

AT = 3 * 12 + 7  # row of episode 3, frame 7


def say(change, style=None, row=AT):
    """A change of the contents of a language column at a row, or of all rows of its episode."""

    def edited(values):
        rows = [row] if style is None else range(row - 7, row + 5)
        for number in rows:
            for entry in values[number]:
                if style is None or entry["style"] == style:
                    entry["content"] = change(entry["content"])
        return values

    return edited


def test_clean_annotations_pass(annotated, params):
    quality.gate("annotations", annotated, params=params)
    assert read_json(annotated / "quality.json")["tables"]["frames"] == 48


def test_a_position_outside_the_image_is_named(annotated, params, edit):
    edit(annotated, "language_events", say(lambda text: text.replace("at 40", "at 140", 1)))
    with pytest.raises(quality.QualityError, match=r"episode 3, frame 7: position_high is 140"):
        quality.gate("annotations", annotated, params=params)


def test_an_endless_text_is_named(annotated, params, edit):
    edit(annotated, "language_persistent", say(lambda text: "word " * 40, "subtask"))
    with pytest.raises(quality.QualityError, match=r"text_words: in \[2, 40\].*sim, episode 3"):
        quality.gate("annotations", annotated, params=params)


def test_a_frame_without_a_move_is_named(annotated, params, edit):
    edit(annotated, "language_persistent", say(lambda text: "", "motion"))
    with pytest.raises(quality.QualityError, match=r"move_words.*sim, episode 3, frame 0"):
        quality.gate("annotations", annotated, params=params)


def test_a_rewrite_that_is_the_command_is_named(annotated, params, edit):
    told = "stack the green block on the yellow block"
    edit(annotated, "language_persistent", say(lambda text: told, "task_aug"))
    with pytest.raises(quality.QualityError, match=r"rewrites_differ.*sim, episode 3"):
        quality.gate("annotations", annotated, params=params)


def test_fewer_rewrites_than_asked_for_are_refused(annotated, params):
    more = config.parse(config.merge(params.model_dump(), {"annotate": {"rewrites": 3}}))
    with pytest.raises(quality.QualityError, match=r"rewrites: at least 3.*rewrites is 2"):
        quality.gate("annotations", annotated, params=more)


def test_a_data_set_without_language_is_refused(episodes, params):
    with pytest.raises(
        quality.QualityError, match="column language_persistent, language_events is missing"
    ):
        quality.gate("annotations", episodes, params=params)
