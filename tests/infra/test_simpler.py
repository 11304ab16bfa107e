"""The script that builds simpler_env's environment: what it refuses before it installs anything."""

import os
import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "infra" / "simpler"


def build(target, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_SOURCE")}
    return subprocess.run(
        ["bash", str(FOLDER / "build.sh"), str(target)],
        env=environment | {k: str(v) for k, v in variables.items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def checkout(tmp_path, *folders):
    for folder in folders:
        (tmp_path / "SimplerEnv" / folder).mkdir(parents=True)
    return tmp_path / "SimplerEnv"


def test_every_package_is_pinned_and_numpy_is_below_2():
    lines = [
        line
        for line in (FOLDER / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    assert pins["sapien"] == "2.2.2"
    for name, below in {"numpy": 2, "gymnasium": 1, "setuptools": 81}.items():
        assert int(pins[name].split(".")[0]) < below


def test_without_a_source_it_says_what_to_set(tmp_path):
    ran = build(tmp_path / "env")
    assert ran.returncode == 2
    assert "SIMPLER_SOURCE is not set ->" in ran.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ((), r"no such folder: .*SimplerEnv -> mend SIMPLER_SOURCE"),
        (("docs",), r"holds no simpler_env -> mend SIMPLER_SOURCE"),
        (("simpler_env",), r"holds no mani_skill2_real2sim -> set REAL2SIM_SOURCE"),
        (("simpler_env", "ManiSkill2_real2sim/mani_skill2_real2sim"), r"holds no data folder"),
    ],
)
def test_a_source_that_lacks_something_is_refused(tmp_path, folders, says):
    checkout(tmp_path, *folders)
    ran = build(tmp_path / "env", SIMPLER_SOURCE=tmp_path / "SimplerEnv")
    assert ran.returncode == 2, ran.stderr
    assert re.search(says, ran.stderr)
    assert not (tmp_path / "env" / "ready").exists()


def test_an_address_is_cloned_at_its_revision(tmp_path):
    source = checkout(tmp_path, "simpler_env")
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    (source / "simpler_env" / "__init__.py").touch()
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    (source / "later").touch()
    for command in (["add", "."], ["commit", "-q", "-m", "two"]):
        subprocess.run([*git, *command], check=True)
    ran = build(tmp_path / "env", SIMPLER_SOURCE=f"file://{source}@v1")
    assert "holds no mani_skill2_real2sim" in ran.stderr
    assert (tmp_path / "env" / "src" / "SimplerEnv" / "simpler_env" / "__init__.py").exists()
    assert not (tmp_path / "env" / "src" / "SimplerEnv" / "later").exists()
