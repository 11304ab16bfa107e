"""Errors before work starts, with a stand-in for lmms-eval's Python where it would run."""

import pytest

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation.multimodal import environment, harness, tasks


@pytest.fixture
def request_of(checkpoint, tmp_path, monkeypatch):
    """`request_of(script, names)`: a request that runs a shell script as lmms-eval's Python."""

    def make(script="exit 0", names=("mmstar",), **fields):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(environment, "python", lambda: python)
        settings = {"checkpoint": checkpoint, "data": "self-made", "out": tmp_path / "out"}
        return harness.Request(benchmarks=tasks.select(names), **(settings | fields))

    return make


def test_mm_vet_without_a_judge_is_an_error_before_anything(request_of):
    request = request_of(names=("mmvet",))
    with pytest.raises(UserError, match="DUALVLA_JUDGE_URL"):
        harness.run(request)
    assert not request.out.exists()


def test_no_checkpoint_is_an_error_before_anything(request_of, tmp_path):
    request = request_of(checkpoint=tmp_path / "none")
    with pytest.raises(UserError, match="no checkpoint"):
        harness.run(request)
    assert not request.out.exists()


def test_a_run_without_data_can_be_given_again(request_of, tmp_path):
    for _ in range(2):
        with pytest.raises(UserError, match="no data set Lin-Chen/MMStar"):
            harness.run(request_of(data=str(tmp_path / "nothing")))
    with pytest.raises(UserError, match="ended with 9"):
        harness.run(request_of("exit 9"))


def test_a_folder_of_something_else_is_left_alone(request_of):
    request = request_of()
    request.out.mkdir()
    (request.out / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        harness.run(request)
    assert [p.name for p in request.out.iterdir()] == ["thesis.txt"]


def test_the_adapters_own_error_is_the_users(request_of):
    request = request_of("echo 'error: it asks for sampled answers -> mend it' >&2; exit 2")
    with pytest.raises(UserError, match="lmms-eval: it asks for sampled answers -> mend it"):
        harness.run(request)


def test_a_module_that_is_missing_means_a_broken_environment(request_of):
    request = request_of("echo \"ModuleNotFoundError: No module named 'x'\" >&2; exit 1")
    with pytest.raises(UserError, match="environment is broken"):
        harness.run(request)


def test_any_other_end_names_the_log(request_of):
    request = request_of("echo 'Killed by fate' >&2; exit 9")
    with pytest.raises(UserError, match=r"ended with 9: Killed by fate -> see .*lmms-eval\.log"):
        harness.run(request)


def test_the_child_gets_a_token_and_no_secret(request_of, monkeypatch):
    monkeypatch.setenv("DUALVLA_JUDGE_KEY", "sk-secret")
    request = request_of("env; exit 9")
    with pytest.raises(UserError, match="ended with 9"):
        harness.run(request)
    said = (request.out / harness.LOG).read_text()
    assert harness.TOKEN in said
    assert "HF_HUB_OFFLINE=1" in said
    assert "sk-secret" not in said


@pytest.mark.parametrize("change", [{"limit": 1}, {"batch": 3}])
def test_another_run_needs_another_folder(request_of, change):
    with pytest.raises(UserError, match="ended with 9"):
        harness.run(request_of("exit 9"))
    (name,) = change
    with pytest.raises(UserError, match=f"another {name}"):
        harness.run(request_of("exit 9", **change))


def test_other_rows_need_another_folder(request_of, tmp_path):
    request = request_of("exit 9")
    with pytest.raises(UserError, match="ended with 9"):
        harness.run(request)
    about = files.read_json(request.out / harness.RUN)
    about["data"]["Lin-Chen/MMStar"]["sha256"] = "0" * 64
    files.write_json(request.out / harness.RUN, about)
    with pytest.raises(UserError, match="another Lin-Chen/MMStar"):
        harness.run(request)
