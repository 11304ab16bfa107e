import shutil
import subprocess
import sys

import pytest

from dualvla.errors import UserError
from dualvla.evaluation.multimodal import environment


@pytest.fixture
def place(tmp_path, monkeypatch):
    folder = tmp_path / "lmms-eval"
    monkeypatch.setenv(environment.FOLDER, str(folder))
    return folder


def test_what_is_not_there_names_the_command_that_builds_it(place):
    with pytest.raises(UserError, match=r"not set up -> bash infra/lmms_eval/setup\.sh"):
        environment.python()


def test_other_pins_are_found(place):
    place.mkdir()
    (place / environment.STAMP).write_text("older\n")
    with pytest.raises(UserError, match="other pins"):
        environment.python()


def test_a_broken_one_names_the_commands_that_mend_it(place):
    (place / "bin").mkdir(parents=True)
    (place / environment.STAMP).write_text(environment.pins())
    with pytest.raises(UserError, match=r"broken -> rm -r .* && bash infra"):
        environment.python()
    # This project's own Python works and has no lmms-eval.
    (place / "bin/python").symlink_to(sys.executable)
    with pytest.raises(UserError, match="broken"):
        environment.python()


@pytest.mark.skipif(not shutil.which("flock"), reason="no flock")
def test_set_up_leaves_a_folder_of_something_else_alone(place):
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    done = subprocess.run(
        ["bash", environment.SETUP, place], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no virtual environment" in done.stderr
    assert (place / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(not shutil.which("flock"), reason="no flock")
def test_script_and_module_agree_on_the_stamp(place):
    # A stamp that holds and a Python that imports what is wanted: nothing is built.
    (place / "bin").mkdir(parents=True)
    (place / environment.STAMP).write_text(environment.pins() + "\n")
    (place / "bin/python").write_text("#!/bin/sh\nexit 0\n")
    (place / "bin/python").chmod(0o755)
    subprocess.run(["bash", environment.SETUP, place], check=True, timeout=60)
    assert (place / environment.STAMP).read_text().strip() == environment.pins()
