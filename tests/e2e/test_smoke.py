"""The smoke profile from nothing to the report: every stage real and tiny, every server real.

It runs in a copy of the tree with servers on free ports, so that it neither meets nor leaves
anything. Minutes on two cores.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import chromium
import pytest
from smoke_tree import api, latest

from dualvla import config, stack, workspace
from dualvla.store import client, versions
from tasks import graph, run, store

pytestmark = [pytest.mark.slow, pytest.mark.sim]

ROOT = Path(__file__).parents[2]
SETTLE = 3.0  # seconds until a page's graph has been drawn
# Of a run in which nothing changed, CPU seconds with all that it starts: a busy machine only makes
# it wait. One stage that runs again would cost more.
UNCHANGED_SECONDS = 40


@pytest.fixture(scope="module")
def first(tree):
    before = tree_state(tree.root)
    answer = tree.run("retrain")
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-6000:]
    assert tree_state(tree.root) == before, "a profile changed the tree"
    return latest(tree)


def tree_state(root: Path) -> dict[str, bytes]:
    return {str(path): (root / path).read_bytes() for path in workspace.tree_files(root)}


def test_every_stage_of_the_graph_completed(tree, first):
    flow, tasks = first
    assert flow["state_type"] == "COMPLETED"
    assert flow["name"].startswith("smoke-")
    stages = graph.read(tree.folder)
    assert {tasks[name]["state_type"] for name in stages} == {"COMPLETED"}
    assert set(tasks) == {*stages, "push", "publish", "artifacts"}


def test_the_report_and_its_artifacts_are_there(tree, first):
    summary = json.loads((tree.folder / "report/summary.json").read_text())
    assert summary["profile"] == "smoke"
    found = api(tree.root, "/artifacts/filter", {"flow_runs": {"id": {"any_": [first[0]["id"]]}}})
    texts = {artifact["key"]: artifact["data"] for artifact in found}
    assert {"success", "retention", "quality", "plots", "report"} <= set(texts)
    assert "data:image/svg+xml;base64," in texts["plots"]


def test_everything_published_has_the_sums_of_its_manifest(tree, first):
    params = config.load(tree.folder / "params.yaml")
    where = client.place(params.store, tree.root)
    prefix = store.version(tree.folder)
    manifest = versions.read_manifest(where, prefix)
    assert versions.verify(where, prefix, manifest) == len(manifest["files"])
    assert "report/index.html" in manifest["files"]
    for model in params.evaluate.models:
        entry = manifest["about"]["models"][model]
        assert versions.verify(where, entry) > 0
        assert "model/model.safetensors" in versions.read_manifest(where, entry)["files"]


def test_another_machine_restores_it_all_from_s3_without_running_a_stage(tree, first, tmp_path):
    other = tmp_path / "other"
    made = {"data", "models", "results", "report", ".cache", ".dualvla"}
    top = str(tree.folder)
    shutil.copytree(tree.folder, other, ignore=lambda at, _: made if at == top else ())
    settings = (other / ".dvc/config").read_text()
    (other / ".dvc/config").write_text(
        settings.replace(str(tree.root / ".dvc/cache"), str(tmp_path / "c"))
    )
    dvc = [sys.executable, "-m", "dvc"]
    # The ablation's file lies apart and did not run.
    subprocess.run([*dvc, "pull", "-q", "dvc.yaml"], cwd=other, check=True)
    status = subprocess.run(
        [*dvc, "status", "dvc.yaml"], cwd=other, capture_output=True, text=True, check=True
    )
    assert "up to date" in status.stdout
    page = "report/summary.json"
    assert (other / page).read_bytes() == (tree.folder / page).read_bytes()


def children_seconds() -> float:
    """CPU seconds of all processes that this one started, and theirs, as far as they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_next_run_is_all_cached_and_quick(tree, first):
    before = children_seconds()
    answer = tree.run("retrain")
    seconds = children_seconds() - before
    assert answer.returncode == 0, answer.stderr[-3000:]
    _, tasks = latest(tree)
    assert {tasks[name]["state_name"] for name in graph.read(tree.folder)} == {"Cached"}
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "dvc.yaml"],
        cwd=tree.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "up to date" in status.stdout
    assert seconds < UNCHANGED_SECONDS


@chromium.needed
def test_the_run_and_its_figures_can_be_looked_at_in_a_browser(tree, first, tmp_path):
    flow, _ = first
    stages = ("demonstrations", "multimodal")  # whose lines come first
    look(tree, f"/runs/flow-run/{flow['id']}", "run", tmp_path, flow["name"], *stages)
    wanted = {"flow_runs": {"id": {"any_": [flow["id"]]}}}
    made = {one["key"]: one["id"] for one in api(tree.root, "/artifacts/filter", wanted)}
    for key, said in {
        "success": ("specialist", "dualvla"),
        "quality": ("mixture", "pruned"),
    }.items():
        page = f"/artifacts/artifact/{made[key]}"
        look(tree, page, key, tmp_path, flow["name"], *said)


def look(tree, path: str, name: str, folder: Path, *said: str) -> None:
    """Open a page of Prefect's, wait until it says what it should, and keep its picture."""
    wanted = os.environ.get("DUALVLA_UPDATE_PICTURES") == "1"
    picture = (ROOT / "docs/pictures" if wanted else folder) / f"prefect-{name}.jpg"
    url = stack.status(tree.root)["prefect"][0] + path
    with chromium.page(url, folder / f"browser-{name}", (1600, 1100)) as page:
        text = "document.body?.innerText ?? ''"
        chromium.wait(lambda: all(one in page.value(text) for one in said))
        time.sleep(SETTLE)
        page.shoot(picture)
    assert picture.stat().st_size > 50_000


def test_the_place_tag_is_the_folder_s_own(tree, first):
    plan = workspace.plan(tree.root, "smoke")
    assert set(first[0]["tags"]) == {"smoke", run.place_tag(plan)}


@chromium.needed
def test_a_deployment_has_a_form(tree, first, tmp_path):
    deploy = [sys.executable, "-m", "dualvla.cli", "deploy"]
    subprocess.run(deploy, cwd=tree.root, capture_output=True, check=True)
    wanted = {"deployments": {"name": {"any_": ["on-demand"]}}}
    (one,) = api(tree.root, "/deployments/filter", wanted)
    said = ("the registry lists them", "candidate or production", "protocol, such as")
    look(tree, f"/deployments/deployment/{one['id']}/run", "form", tmp_path, *said)
