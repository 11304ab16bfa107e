"""Evaluation on demand: a published version, a short suite, real simulation, real servers."""

import os
import subprocess
import sys

import pytest
import tiny_policy
import yaml

from dualvla import config, files, stack
from dualvla.evaluation import protocol
from dualvla.store import aliases, client, keys, versions

pytestmark = [pytest.mark.slow, pytest.mark.sim]

VERSION = "0123456789abcdef"


@pytest.fixture
def where(project):
    place = client.place(config.load(project.root / "params.yaml").store, project.root)
    client.check(place, create=True)
    return place


@pytest.fixture
def suite(project):
    """One start of two tasks, a few steps each."""
    tasks = [{"task": task, "starts": "official", "max_steps": 4} for task in ("carrot", "stack")]
    size = tiny_policy.IMAGE_SIZE
    changes = {"name": "short", "camera": {"width": size, "height": size}, "episodes": tasks}
    changes |= {"ensemble": None, "execute": 2}
    path = project.root / "short.yaml"
    path.write_text(yaml.safe_dump(protocol.load("canary").model_dump(mode="json") | changes))
    return path


def evaluate(project, servers, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = ["--root", str(project.root), "--model", "dualvla", "--videos", "0", "--workers", "1"]
    environment = {
        **os.environ,
        **stack.environment(servers),
        keys.VARIABLE: "trainer",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.run(
        [sys.executable, "-m", "flows.evaluate", *given, *arguments],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_version_is_evaluated_once_by_its_alias(project, servers, where, suite, prefect_api):
    folder = project.root / "tiny"
    folder.mkdir()
    tiny_policy.policy().write(folder, resolved={}, environment={})
    versions.publish(where, f"registry/dualvla/{VERSION}", {"model": folder}, {"model": "dualvla"})
    seen = aliases.read(where, "dualvla", "candidate")
    aliases.move(where, seen, VERSION)

    arguments = ("--suite", str(suite), "--episodes", "1")
    done = evaluate(project, servers, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = versions.listing(where, f"evaluations/dualvla/{VERSION}")
    assert result.name.startswith("short-")
    prefix = f"evaluations/dualvla/{VERSION}/{result.name}"
    assert {"results.parquet", "summary.json", "protocol.yaml"} <= set(result.manifest["files"])
    versions.verify(where, prefix)
    about = result.manifest["about"]
    assert about["summary"]["policy"]["fingerprint"] == files.sha256(folder)
    rows = {row["task"]: row["n"] for row in about["summary"]["rates"]}
    assert rows == {"carrot": 1, "stack": 1, "all": 2}

    # Again, by the name's first digits: shown, not simulated.
    again = evaluate(project, servers, *arguments, "--version", VERSION[:6])
    assert again.returncode == 0, again.stdout + again.stderr
    (same,) = versions.listing(where, f"evaluations/dualvla/{VERSION}")
    assert same.published == result.published
    wanted = {"artifacts": {"key": {"any_": ["evaluation"]}}}
    tables = [one["data"] for one in prefect_api("/artifacts/filter", wanted)]
    assert (
        len([text for text in tables if prefix in text and "| official | carrot | " in text]) == 2
    )


def test_what_is_not_there_is_bad_input(project, servers, where, suite):
    missing = evaluate(project, servers, "--suite", str(suite))
    assert missing.returncode == 2
    assert "candidate is not set" in missing.stderr
