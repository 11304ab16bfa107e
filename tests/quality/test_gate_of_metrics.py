"""The gate of result files: every figure has its n and an interval that contains it."""

import pytest

from dualvla import quality
from dualvla.evaluation.statistics import rate
from dualvla.files import read_json, write_json


@pytest.fixture
def check(tmp_path, params):
    """Run the gate on a summary with one rate, changed by a patch."""

    def run(**patch):
        figure = {"starts": "official", "task": "carrot", "errors": 0} | rate(9, 24) | patch
        write_json(tmp_path / "dualvla/summary.json", {"schema": 1, "rates": [figure]})
        subject = "evaluate/dualvla"
        quality.gate("metrics", tmp_path / "dualvla", params=params, subject=subject)

    return run


def test_a_clean_summary_passes(check, tmp_path):
    check()
    report = read_json(tmp_path / ".cache/quality/metrics-evaluate-dualvla.json")
    assert report["success"]
    assert report["tables"] == {"rates": 1}


@pytest.mark.parametrize(
    "patch",
    [
        {"rate": 37.5},
        {"rate": 0.5},
        {"k": 25},
        {"low": 0.9},
        {"high": 0.1},
        {"errors": 12},
        {"n": 0, "rate": None},
        {"rate": float("nan")},
    ],
    ids=str,
)
def test_a_figure_that_cannot_be_is_named(check, patch):
    with pytest.raises(quality.QualityError, match=r"rates\[official/carrot\]"):
        check(**patch)


def test_a_summary_without_figures_is_refused(tmp_path, params):
    write_json(tmp_path / "dualvla/summary.json", {"schema": 1, "rates": []})
    with pytest.raises(quality.QualityError, match="no figure with n and interval"):
        quality.gate("metrics", tmp_path / "dualvla", params=params)


def test_a_broken_episode_is_a_warning(check, tmp_path):
    check(errors=1)
    assert read_json(tmp_path / "dualvla/quality.json")["counts"]["warned"] == 1


def test_a_mean_outside_its_interval_is_named(tmp_path, params):
    tasks = {"carrot": {"n": 9, "score": 0.7, "score_interval": [0.1, 0.6]}}
    write_json(tmp_path / "dualvla/summary.json", {"n": 9, "tasks": tasks})
    with pytest.raises(quality.QualityError, match=r"tasks\.carrot\.score"):
        quality.gate("metrics", tmp_path / "dualvla", params=params)
