"""What `dualvla evaluate` takes for done."""

import pytest

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation import command, evaluator

ASKED = {"policy": {"fingerprint": "f"}, "protocol": "h", "reason": "every_4"}


@pytest.fixture
def done(tmp_path):
    """A finished result, and the file beside it that says by what code it was measured."""
    out, timing = tmp_path / "out", tmp_path / "out.timing.json"
    out.mkdir()
    files.write_json(out / "summary.json", ASKED | {"protocol": {"hash": "h"}})
    files.write_json(timing, {"code": evaluator.code()})
    return {"out": out, "timing": timing}


def test_the_same_evaluation_is_not_run_again(done, tmp_path):
    assert command._finished(**done, **ASKED)["reason"] == "every_4"
    nothing = {"out": tmp_path / "new", "timing": tmp_path / "new.timing.json"}
    assert command._finished(**nothing, **ASKED) is None


@pytest.mark.parametrize(
    "other", [{"policy": {"fingerprint": "g"}}, {"protocol": "i"}, {"reason": "every_8"}]
)
def test_another_evaluation_is_not_taken_for_it(done, other):
    with pytest.raises(UserError, match="holds another evaluation"):
        command._finished(**done, **ASKED | other)


def test_neither_is_one_by_other_code(done):
    files.write_json(done["timing"], {"code": "older"})
    with pytest.raises(UserError, match="measured by other code"):
        command._finished(**done, **ASKED)
    done["timing"].unlink()
    with pytest.raises(UserError, match="measured by other code"):
        command._finished(**done, **ASKED)
