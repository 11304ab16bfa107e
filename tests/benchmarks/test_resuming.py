import pytest
import resuming

from dualvla.errors import UserError


def test_figures_of_the_same_question_are_taken_up_and_of_another_refused(tmp_path):
    path, asked = tmp_path / "figures.json", {"tasks": ("carrot",), "starts": {"official": 24}}
    assert resuming.rows(path, asked) == resuming.rows(None, asked) == []
    resuming.keep(path, asked, [{"k": 1}])
    assert resuming.rows(path, asked) == [{"k": 1}]
    with pytest.raises(UserError, match="not of"):
        resuming.rows(path, asked | {"starts": {"official": 12}})
