"""The smoke ablation from nothing to its report, with real servers; then once more, all cached.

Minutes on two idle cores.
"""

import json
import subprocess
import sys

import pytest
from test_smoke import latest, tree  # noqa: F401

from tasks import graph
from tasks.run import ABLATE

pytestmark = [pytest.mark.slow, pytest.mark.sim]


def ablate(root) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dualvla.cli", "ablate", "--profile", "smoke"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def first(tree):  # noqa: F811
    answer = ablate(tree.root)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-6000:]
    return latest(tree)


def test_every_arm_under_every_budget_and_seed_completed(tree, first):  # noqa: F811
    flow, tasks = first
    assert flow["state_type"] == "COMPLETED"
    stages = graph.read(tree.folder, ABLATE.file)
    assert set(tasks) == {*stages, "push", "publish", "artifacts"}
    assert {task["state_type"] for task in tasks.values()} == {"COMPLETED"}
    assert "score@dualvla" not in tasks


def test_the_report_pools_all_seeds(tree, first):  # noqa: F811
    summary = json.loads((tree.folder / ABLATE.report / "summary.json").read_text())
    pooled = [row for row in summary["success"] if row["task"] == "all"]
    episodes = len(summary["tasks"]) * len(summary["seeds"])
    assert {row["n"] + row["errors"] for row in pooled} == {episodes}
    assert (tree.folder / ABLATE.report / ABLATE.page).is_file()


def test_the_next_run_is_all_cached_and_the_nightly_run_shares_what_was_made(tree, first):  # noqa: F811
    assert ablate(tree.root).returncode == 0
    _, tasks = latest(tree)
    assert {tasks[name]["state_name"] for name in graph.read(tree.folder, ABLATE.file)} == {
        "Cached"
    }
    nightly = graph.read(tree.folder)
    late = graph.changed(tree.folder, nightly)
    assert not {"demonstrations", "base_vlm", "specialist", "mix", "prune"} & set(late)
    assert "generalist" in late
