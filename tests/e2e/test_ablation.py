"""The smoke ablation from nothing to its report, with real servers; then once more, all cached.

Minutes on two idle cores.
"""

import json

import pytest
from smoke_tree import latest

from tasks import graph
from tasks.run import ABLATE

pytestmark = [pytest.mark.slow, pytest.mark.sim]


@pytest.fixture(scope="module")
def first(tree):
    answer = tree.run("ablate")
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-6000:]
    return latest(tree)


def test_every_arm_under_every_budget_and_seed_completed(tree, first):
    flow, tasks = first
    assert flow["state_type"] == "COMPLETED"
    stages = graph.read(tree.folder, ABLATE.file)
    assert set(tasks) == {*stages, "push", "publish", "artifacts"}
    assert {task["state_type"] for task in tasks.values()} == {"COMPLETED"}
    assert "score@dualvla" not in tasks


def test_the_report_pools_all_seeds(tree, first):
    summary = json.loads((tree.folder / ABLATE.report / "summary.json").read_text())
    pooled = [row for row in summary["success"] if row["task"] == "all"]
    episodes = len(summary["tasks"]) * len(summary["seeds"])
    assert {row["n"] + row["errors"] for row in pooled} == {episodes}
    assert (tree.folder / ABLATE.report / ABLATE.page).is_file()


def test_the_next_run_is_all_cached_and_the_nightly_run_shares_what_was_made(tree, first):
    assert tree.run("ablate").returncode == 0
    _, tasks = latest(tree)
    assert {tasks[name]["state_name"] for name in graph.read(tree.folder, ABLATE.file)} == {
        "Cached"
    }
    nightly = graph.read(tree.folder)
    late = graph.changed(tree.folder, nightly)
    assert not {"demonstrations", "base_vlm", "specialist", "mix", "prune"} & set(late)
    assert "generalist" in late
