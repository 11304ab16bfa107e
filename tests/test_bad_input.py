"""Bad input: exit code 2, one clear line, nothing written, before any work.

The toy project stands in for the tree, because what is tested here is refused before a stage
runs. What only a stage can see (a truncated data set, a checkpoint of another shape) is tested by
running that stage.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from shutil import copyfile

import pytest

from dualvla import stack
from dualvla.errors import UserError
from dualvla.stages import runner

REPOSITORY = Path(__file__).parents[1]


def refused(project, *arguments: str, says: str, **environment: str) -> None:
    before = project.files()
    answer = project.run(*(arguments or ("retrain",)), **environment)
    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert re.search(says, lines[0]), lines[0]
    assert lines[0].startswith("error: ")
    assert " -> " in lines[0], "no advice"
    assert project.files() == before


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        (
            {"prune": {"tolerence": 2}},
            r"unknown parameter prune\.tolerence .*did you mean tolerance",
        ),
        ({"prunes": {}}, "unknown parameter prunes .*did you mean prune"),
        ({"prune": {"tolerance": 99}}, r"prune\.tolerance: .*less than or equal to 16, got 99"),
        ({"distill": {"weight": float("nan")}}, r"distill\.weight: .*finite"),
        (
            {"distill": {"targets": {"velocty": 1.0}}},
            r"unknown parameter distill\.targets\.velocty .*did you mean velocity",
        ),
        ({"distill": {"targets": {"velocity": 0, "latent": 0}}}, "targets: no target has a weight"),
        ({"simulation": {"tasks": ["banana"]}}, r"simulation\.tasks\.0: .*'carrot'"),
        ({"evaluate": {"models": ["prune_only"]}}, r"prune_only is not in distill\.arms"),
        ({"demonstrations": {"source": "rlds"}}, "rlds_path is needed"),
        (
            {"demonstrations": {"source": "rlds", "rlds_path": "nowhere"}},
            "nowhere: no such data set",
        ),
        ({"demonstrations": {"source": "rlds", "rlds_path": "."}}, "not an RLDS data set"),
        ({"store": {"endpoint": "http://127.0.0.1:9"}}, "S3 does not answer|no keys for S3"),
    ],
)
def test_parameters(bare_project, port_base, patch, says):
    bare_project.patch(**patch)
    refused(bare_project, says=says, DUALVLA_PORT_BASE=str(port_base))


def test_no_such_profile(bare_project):
    refused(bare_project, "retrain", "--profile", "smok", says="no profile 'smok' .*smoke")


def test_broken_yaml(bare_project):
    (bare_project.root / "params.yaml").write_text("seed: [0\n")
    refused(bare_project, says=r"params\.yaml: not valid YAML")


def test_missing_official_assets(bare_project, port_base, tmp_path):
    bare_project.patch(simulation={"assets": "official"})
    environment = {"MS_ASSET_DIR": str(tmp_path), "DUALVLA_PORT_BASE": str(port_base)}
    refused(bare_project, says=f"{tmp_path}.*official asset pack lacks", **environment)


def test_no_vulkan(bare_project, port_base):
    environment = {
        "VK_ICD_FILENAMES": "/nonexistent",
        "VK_DRIVER_FILES": "/nonexistent",
        "DUALVLA_PORT_BASE": str(port_base),
    }
    refused(bare_project, says=r"no usable Vulkan device .*infra/vulkan\.sh", **environment)


def test_a_port_in_use(bare_project, port_base):
    with socket.socket() as taken:
        taken.bind((stack.HOST, port_base))
        taken.listen()
        says = rf"port {port_base} for prefect is in use by .*\(pid {os.getpid()}\)"
        refused(bare_project, says=says, DUALVLA_PORT_BASE=str(port_base))
        refused(bare_project, "up", says=says, DUALVLA_PORT_BASE=str(port_base))


def test_wrong_s3_keys(project):
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"}
    refused(project, says="S3 refuses the keys", **keys)


def test_half_a_key_pair(bare_project, port_base):
    environment = {"AWS_ACCESS_KEY_ID": "me", "DUALVLA_PORT_BASE": str(port_base)}
    refused(bare_project, says="AWS_SECRET_ACCESS_KEY is not set", **environment)


def test_a_prefect_server_that_does_not_answer(bare_project, port_base):
    environment = {
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "DUALVLA_PORT_BASE": str(port_base),
    }
    refused(bare_project, says="Prefect does not answer", **environment)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(bare_project, port_base, small_disk):
    from dataclasses import replace
    from shutil import copytree

    copytree(bare_project.root, small_disk / "project")
    project = replace(bare_project, root=small_disk / "project")
    says = "GiB free on the disk, .* GiB needed"
    refused(project, says=says, DUALVLA_PORT_BASE=str(port_base))


def stage(folder, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"dualvla.stages.{name}", *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("annotate", ()),
        ("base_vlm", ()),
        ("specialist", ()),
        ("mix", ()),
        ("generalist", ()),
        ("prune", ()),
        ("distill", ("--arm", "dualvla")),
        ("evaluate", ("--model", "dualvla")),
        ("benchmark", ("--model", "dualvla")),
        ("score", ("--model", "dualvla")),
        ("diagnose", ("--model", "dualvla")),
        ("report", ()),
    ],
)
def test_a_stage_without_its_input(bare_project, name, more):
    before = bare_project.files()
    answer = stage(bare_project.root, name, *more)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in answer.stderr
    assert bare_project.files() == before


def test_a_stage_on_a_full_disk(bare_project, small_disk):
    from shutil import copy

    copy(bare_project.root / "params.yaml", small_disk)
    answer = stage(small_disk, "multimodal")
    assert answer.returncode == 2
    assert "GiB free" in answer.stderr
    assert [path.name for path in small_disk.iterdir()] == ["params.yaml"]


@pytest.mark.slow
def test_a_truncated_data_set(bare_project, tmp_path):
    from shutil import copytree

    sample = REPOSITORY.parent / "shared/data/bridge_rlds_sample"
    if not sample.is_dir():
        pytest.skip("no sample of RLDS data")
    copytree(sample, tmp_path / "rlds", copy_function=copyfile)
    shard = next((tmp_path / "rlds").rglob("*-train.tfrecord-*"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    bare_project.patch(demonstrations={"source": "rlds", "rlds_path": str(tmp_path / "rlds")})
    before = bare_project.files()
    answer = stage(bare_project.root, "demonstrations")
    assert answer.returncode == 2, answer.stderr
    assert f"{shard.name}" in answer.stderr.splitlines()[-1]
    assert bare_project.files() == before


def test_a_stage_that_does_not_train_is_refused_in_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes"):
        runner.require_alone()
