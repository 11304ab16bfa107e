import shutil
from pathlib import Path

import numpy as np
import pytest
import simulated_episodes
from typer.testing import CliRunner

from dualvla import config, files
from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.evaluation.judging import datasets
from dualvla.evaluation.judging.commands import app
from dualvla.stages import annotate

REPOSITORY = Path(__file__).parents[3]


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def dualvla(case, evaluation, tmp_path):
    return evaluation(tmp_path / "dualvla", [case(n) for n in range(5)], films=2)


def test_calibration_is_written_as_json_and_for_people(dualvla, tmp_path):
    done = run("calibrate", "--from", dualvla, "--per-task", 4, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    table = files.read_json(tmp_path / "out" / "calibration.json")
    assert (table["judge"], table["n"]) == ("rules", 4)
    assert done.output == (tmp_path / "out" / "calibration.md").read_text()


def test_a_judge_that_misses_a_fault_ends_with_1(case, evaluation, tmp_path):
    silent = evaluation(tmp_path / "silent", [case(n, speaks=False) for n in range(3)], films=0)
    done = run("calibrate", "--from", silent, "--out", tmp_path / "out")
    assert done.exit_code == 1
    rows = files.read_json(tmp_path / "out" / "calibration.json")["faults"]
    assert [row["n"] for row in rows] == [3, 0, 0, 0, 3]


def test_scores_of_two_judges_are_compared(dualvla, tmp_path):
    for name in ("one", "two"):
        run("score", "--from", dualvla, "--out", tmp_path / name)
    done = run("agree", tmp_path / "one", tmp_path / "two")
    assert done.output.count("+0.00") == 5
    assert files.read_json(tmp_path / "one" / "summary.json")["model"] == "dualvla"


def test_a_knowledge_base_is_built_once(dualvla, tmp_path):
    run("score", "--from", dualvla, "--out", tmp_path / "scores")
    arguments = ("build", "--from", dualvla, "--scores", tmp_path / "scores")
    done = run(*arguments, "--out", tmp_path / "kb")
    assert "0 of 2 trajectories reviewed" in done.output
    assert (tmp_path / "kb" / "review.html").is_file()
    with pytest.raises(UserError, match="is there already"):
        run(*arguments, "--out", tmp_path / "kb")
    with pytest.raises(UserError, match="2 evaluations, 1 scores"):
        run(*arguments, "--from", dualvla, "--out", tmp_path / "other")


@pytest.mark.parametrize(
    ("option", "value"), [("--judge", "oracle"), ("--repeats", 2), ("--knowledge", "kb")]
)
def test_a_setting_that_is_none_is_refused(dualvla, tmp_path, option, value):
    with pytest.raises(UserError):
        run("score", "--from", dualvla, "--out", tmp_path / "out", option, value)
    assert not (tmp_path / "out").exists()


def test_expert_trajectories_of_an_annotated_data_set_are_cases(tmp_path):
    root = simulated_episodes.write(tmp_path / "demonstrations")
    params = config.load(REPOSITORY / "params.yaml")
    with pytest.raises(UserError, match="texts"):
        datasets.read(root)
    annotate.write(lerobot.open_dataset(root), tmp_path / "annotated", params)
    found = datasets.read(tmp_path / "annotated")
    assert [one.key[1] for one in found] == ["carrot", "spoon"]
    columns = simulated_episodes.columns(0)
    one = found[0]
    assert np.allclose(one.clip.actions, columns[lerobot.ACTION][:-1])
    assert np.allclose(one.clip.environment, columns[lerobot.ENVIRONMENT])
    assert one.success
    assert one.clip.texts[0].startswith("subtask: ")
    pictures = one.film([3, 0])
    assert pictures[0].shape == (16, 16, 3)
    assert not np.array_equal(*pictures)
    assert len(datasets.read(tmp_path / "annotated", 1)) == 2
    shutil.rmtree(tmp_path / "annotated" / "meta")
    with pytest.raises(UserError):
        datasets.read(tmp_path / "annotated")
