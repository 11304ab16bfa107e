"""What the lines of `dvc repro` say about a stage."""

import pytest
from prefect.states import Completed, Crashed, Failed, Pending

from tasks.run import ending, exit_code
from tasks.stage import Outcome, WorthRepeatingError, _final


def read(*lines: str) -> Outcome:
    outcome = Outcome()
    for line in lines:
        outcome.read(line)
    return outcome


@pytest.mark.parametrize(
    "line",
    [
        "Stage 'prune' didn't change, skipping",
        "Stage 'prune' is cached - skipping run, checking out",
    ],
)
def test_unchanged_and_restored_stages_are_cached(line):
    assert _final(0, read(line)).name == "Cached"


def test_a_stage_that_ran_is_completed():
    assert _final(0, read("Running stage 'prune':")).name == "Completed"


@pytest.mark.parametrize(
    ("code", "name"), [(1, "Failed"), (2, "BadInput"), (3, "DataQualityFailed")]
)
def test_the_stage_s_own_exit_code_names_the_state(code, name):
    lines = ["error: data/x: NaN -> mend it", f"ERROR: failed to reproduce: x, exited with {code}"]
    state = _final(255, read(*lines))
    assert (state.name, state.message) == (name, "data/x: NaN -> mend it")
    assert exit_code(ending({"x": state})) == code


@pytest.mark.parametrize("line", ["failed to run: python, exited with -9", "ERROR: 'x' is busy"])
def test_a_killed_stage_and_a_busy_lock_are_worth_repeating(line):
    with pytest.raises(WorthRepeatingError):
        _final(255, read(line))


def test_a_full_disk_is_bad_input():
    state = _final(255, read("ERROR: [Errno 28] No space left on device: 'data'"))
    assert state.name == "BadInput"
    assert "free some space" in state.message


def test_the_first_failure_names_the_run():
    states = {"a": Completed(), "b": Failed(name="BadInput", message="no"), "c": Failed()}
    assert (ending(states).name, ending(states).message) == ("BadInput", "b: no")
    assert exit_code(ending({"a": Completed()})) == 0


def test_a_crash_names_the_run_where_nothing_failed():
    states = {"a": Completed(), "b": Crashed(message="gone"), "c": Pending(name="NotReady")}
    assert (ending(states).name, ending(states).message) == ("Crashed", "b: gone")
