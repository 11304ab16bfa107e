import pytest

from dualvla.errors import UserError
from dualvla.evaluation.multimodal import tasks


def test_all_eight_are_chosen_without_names():
    titles = [b.title for b in tasks.select([])]
    assert titles == [
        "MMMU",
        "MM-Vet",
        "MMStar",
        "OCRBench",
        "MMBench",
        "TextVQA",
        "InfoVQA",
        "DocVQA",
    ]


def test_names_choose_each_once_in_the_usual_order():
    assert [b.name for b in tasks.select(["docvqa", "mmmu", "docvqa"])] == ["mmmu", "docvqa"]


def test_an_unknown_name_is_an_error_with_the_nearest():
    with pytest.raises(UserError, match="did you mean docvqa"):
        tasks.select(["docvqua"])


def test_mm_vet_alone_needs_a_judge():
    assert [b.name for b in tasks.select([]) if b.judged] == ["mmvet"]
