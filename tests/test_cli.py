"""The `dualvla` command: fast help, one clear line for an error."""

import subprocess
import sys

import pytest
import yaml

HEAVY = ("prefect", "dvc", "torch", "pandas", "boto3", "mani_skill", "great_expectations")


def test_help_imports_nothing_heavy():
    code = f"import sys, dualvla.cli; print([m for m in {HEAVY} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "down",
        "status",
        "retrain",
        "ablate",
        "schedule",
        "repro",
        "doctor",
        "report",
        "label",
        "evaluate",
        "serve",
        "benchmark",
        "compare",
        "deploy",
        "worker",
    ],
)
def test_every_command_has_help_with_an_example(bare_project, command):
    answer = bare_project.run(command, "--help")
    assert answer.returncode == 0
    assert f"Example: dualvla {command}" in answer.stdout


def test_outside_of_a_project_is_an_error(bare_project, tmp_path):
    answer = subprocess.run(
        [sys.executable, "-m", "dualvla.cli", "params", "show"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"error: {tmp_path}: no dvc.yaml here -> ")
    assert answer.stderr.count("\n") == 1


def test_params_show_prints_the_merged_values(bare_project):
    shown = yaml.safe_load(bare_project.run("params", "show", "--profile", "smoke").stdout)
    assert (shown["profile"], shown["demonstrations"]["per_task"]) == ("smoke", 2)
    assert shown["demonstrations"]["jitter_xy"] == 0.02


def test_params_use_writes_them_with_comments_and_back_again(bare_project):
    path = bare_project.root / "params.yaml"
    assert bare_project.run("params", "use", "smoke").returncode == 0
    text = path.read_text()
    assert text.startswith("# ")
    assert yaml.safe_load(text)["profile"] == "smoke"
    assert bare_project.run("params", "use", "default").returncode == 0
    assert path.read_bytes() == (bare_project.root / "params/default.yaml").read_bytes()


def test_report_without_a_run_says_how_to_make_one(bare_project):
    answer = bare_project.run("report")
    assert answer.returncode == 2
    assert "dualvla retrain --profile default" in answer.stderr


def test_status_without_servers(bare_project):
    answer = bare_project.run("status", "--profile", "smoke")
    assert answer.returncode == 0
    assert answer.stdout.count("stopped") == 2


def test_a_wrong_time_is_refused_before_any_server_starts(bare_project):
    answer = bare_project.run("schedule", "--cron", "nonsense")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: --cron: no such time: 'nonsense' -> ")
    assert answer.stderr.count("\n") == 1
    assert bare_project.run("status").stdout.count("stopped") == 2


def test_repro_runs_without_any_server(bare_project):
    answer = bare_project.run("repro", "annotate")
    assert answer.returncode == 0, answer.stderr
    assert (bare_project.root / "data/annotated/content.txt").is_file()
    assert bare_project.run("status").stdout.count("stopped") == 2
