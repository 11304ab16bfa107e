"""What is found where a writer was killed, at every step of a replacement."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from dualvla import files

# Replaces a folder and is killed just before or just after one step of it.
KILLED = """
    import os, shutil, signal, sys
    from pathlib import Path
    from dualvla import files

    folder, step, when = sys.argv[1:]
    owner = shutil if step == "rmtree" else os
    real = getattr(owner, step)

    def strike(*arguments, **more):
        if when == "after":
            real(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    with files.replacing(folder) as beside:
        beside.mkdir()
        (beside / "text").write_text("new")
        setattr(owner, step, strike)
"""
# The old one steps aside, the new one takes its place, the old one goes.
STEPS = {
    ("rename", "before"): "old",
    ("rename", "after"): "old",
    ("replace", "before"): "old",
    ("replace", "after"): "new",
    ("rmtree", "before"): "new",
    ("rmtree", "after"): "new",
}


def write(folder: Path, text: str | Callable[[], str]) -> None:
    with files.replacing(folder) as beside:
        beside.mkdir()
        (beside / "text").write_text(text() if callable(text) else text)


@pytest.mark.parametrize(("step", "when"), STEPS)
def test_a_kill_leaves_the_old_or_the_new_folder_whole(tmp_path, step, when):
    folder = tmp_path / "folder"
    write(folder, "old")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), folder, step, when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    files.recover(folder)
    assert (folder / "text").read_text() == STEPS[step, when]
    assert not list(tmp_path.glob("*.old"))
    write(folder, "newest")
    assert (folder / "text").read_text() == "newest"


def test_the_next_replacement_takes_up_what_a_kill_left_aside(tmp_path):
    folder = tmp_path / "folder"
    write(folder, "old")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), folder, "rename", "after"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(RuntimeError), files.replacing(folder):
        raise RuntimeError
    assert (folder / "text").read_text() == "old"
    assert not list(tmp_path.glob("*.old"))


def test_a_replacement_that_fails_keeps_the_old_folder(tmp_path):
    folder = tmp_path / "folder"
    write(folder, "old")
    with pytest.raises(ZeroDivisionError):
        write(folder, lambda: 1 / 0)
    with pytest.raises(FileNotFoundError), files.replacing(folder):
        pass  # nothing was written
    assert (folder / "text").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": float("nan")})
    monkeypatch.setattr(os, "rename", lambda *_: pytest.fail("stepped aside"))
    files.write_json(path, {"a": 1})
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_recovery_of_what_never_was_does_nothing(tmp_path):
    files.recover(tmp_path / "none" / "folder")
    assert not list(tmp_path.iterdir())


def test_of_several_that_recover_the_fastest_puts_it_back(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    write(folder, "old")
    folder.rename(tmp_path / ".folder.old")
    rename = os.rename

    def beaten(source, target):
        rename(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", beaten)
    files.recover(folder)
    assert (folder / "text").read_text() == "old"
