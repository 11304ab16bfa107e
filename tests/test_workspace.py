"""Profiles run in snapshots of the tree."""

import os
import subprocess

import pytest

from dualvla import config, workspace
from dualvla.errors import UserError

REMOTE = {"url": "s3://bucket/dvc", "endpointurl": "http://127.0.0.1:1"}


@pytest.fixture
def root(bare_project):
    return bare_project.root


def snapshot(folder) -> dict[str, tuple[bytes, int]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and ".dualvla" not in path.relative_to(folder).parts[:1]:
            found[str(path.relative_to(folder))] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def test_planning_writes_nothing(bare_project):
    before = bare_project.files()
    assert workspace.plan(bare_project.root).is_tree
    assert not workspace.plan(bare_project.root, "smoke").is_tree
    assert bare_project.files() == before


def test_a_snapshot_has_the_code_merged_parameters_and_the_tree_s_cache(root):
    before = snapshot(root)
    plan = workspace.plan(root, "smoke")
    workspace.write(plan, REMOTE)
    assert (plan.folder / "toy.py").read_bytes() == (root / "toy.py").read_bytes()
    assert config.load(plan.folder / "params.yaml") == plan.params
    settings = (plan.folder / ".dvc/config").read_text()
    assert f"dir = {root}/.dvc/cache" in settings
    assert "s3://bucket/dvc" in settings
    assert snapshot(root) == before


def test_writing_again_touches_only_what_changed(root):
    plan = workspace.plan(root, "smoke")
    workspace.write(plan, REMOTE)
    (plan.folder / "data").mkdir()
    (plan.folder / "data" / "made").write_text("by a stage")
    (root / "new.py").write_text("x = 1\n")
    before = snapshot(plan.folder)
    workspace.write(plan, REMOTE)
    after = snapshot(plan.folder)
    assert after.pop("new.py")[0] == b"x = 1\n"
    assert after == before


def test_what_the_ablation_made_belongs_to_one_workspace(root):
    made = ("ablation/dvc.lock", "ablation/models/short-0/x/config.json", "ablation/report/a.md")
    for path in ("ablation/dvc.yaml", *made):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("the tree's")
    plan = workspace.plan(root, "smoke")
    workspace.write(plan, REMOTE)
    assert (plan.folder / "ablation/dvc.yaml").is_file()
    assert not [path for path in made if (plan.folder / path).exists()]
    for path in made:
        (plan.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (plan.folder / path).write_text("its own")
    workspace.write(plan, REMOTE)
    assert [(plan.folder / path).read_text() for path in made] == ["its own"] * len(made)


def test_a_deleted_file_goes_from_the_snapshot_too(root):
    plan = workspace.plan(root, "smoke")
    (root / "old.py").write_text("x = 1\n")
    workspace.write(plan, REMOTE)
    (root / "old.py").unlink()
    workspace.write(plan, REMOTE)
    assert not (plan.folder / "old.py").exists()


def test_git_decides_what_belongs_to_the_tree(root):
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("secret.txt\n")
    (root / "secret.txt").write_text("hidden")
    plan = workspace.plan(root, "smoke")
    workspace.write(plan, REMOTE)
    assert (plan.folder / "toy.py").is_file()
    assert not (plan.folder / "secret.txt").exists()


def test_relative_paths_in_parameters_hold_in_the_snapshot(bare_project):
    (bare_project.root / "episodes").mkdir()
    bare_project.patch(demonstrations={"rlds_path": "episodes"})
    plan = workspace.plan(bare_project.root, "smoke")
    assert plan.params.demonstrations.rlds_path == str(bare_project.root / "episodes")


def test_an_overlay_patches_the_default_not_another_overlay(bare_project):
    workspace.use(bare_project.root, "smoke")
    plan = workspace.plan(bare_project.root, "smoke")
    assert plan.is_tree
    plan = workspace.plan(bare_project.root, "default")
    assert plan.params.demonstrations.per_task == 60


def test_two_runs_in_one_folder_are_refused(tmp_path):
    workspace.require_idle(tmp_path)
    with workspace.exclusive(tmp_path):
        with pytest.raises(UserError, match="under way") as caught:
            workspace.require_idle(tmp_path)
        assert str(os.getpid()) in caught.value.fix
    workspace.require_idle(tmp_path)


def test_the_committed_default_is_complete():
    root = workspace.Path(__file__).parents[1]
    default = config.load(root / "params/default.yaml")
    assert default.profile == "default"
    current = config.load(root / "params.yaml")
    assert current.profile != "default" or current == default


@pytest.mark.parametrize("profile", workspace.profiles(workspace.Path(__file__).parents[1]))
def test_every_overlay_is_valid(profile):
    plan = workspace.plan(workspace.Path(__file__).parents[1], profile)
    assert plan.profile == profile
