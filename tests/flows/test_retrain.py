"""The retrain flow on the toy project: real DVC, real Prefect server, real S3."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dualvla import config
from dualvla.store import aliases, client, versions
from tasks import session, store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interruptible")]

STAGES = ("demonstrations", "annotate", "prune", "distill@dualvla", "distill@base_ft", "report")


@pytest.fixture
def toy(project):
    project.patch(evaluate={"models": ["dualvla", "base_ft"]})
    return project


def behave(**stages: object) -> dict[str, str]:
    return {"TOY": json.dumps(stages)}


def latest(prefect_api, toy) -> tuple[dict, dict[str, dict]]:
    """The newest run of a project's folder, and its tasks' states by name."""
    from dualvla import workspace
    from tasks import run

    tag = run.place_tag(workspace.plan(toy.root))
    wanted = {"flow_runs": {"tags": {"all_": [tag]}}, "sort": "START_TIME_DESC", "limit": 1}
    flow = prefect_api("/flow_runs/filter", wanted)[0]
    tasks = prefect_api("/task_runs/filter", {"flow_runs": {"id": {"any_": [flow["id"]]}}})
    return flow, {task["name"]: task for task in tasks}


def start(toy, **stages: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dualvla.cli", "retrain"],
        cwd=toy.root,
        env={**os.environ, **behave(**stages)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def children(toy) -> list[str]:
    """Command lines of the processes that a run in this folder started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(session.OWNER) == str(toy.root):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:  # it has ended, or is not ours
            continue
    return found


def wait_for(what, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def timings(toy, *names):
    return [(name, toy.root / f".cache/timings/{name}.json") for name in names]


def training(toy) -> bool:
    return any("toy.py" in command for command in children(toy))


def test_a_green_run_is_published_and_the_next_one_is_all_cached(toy, prefect_api):
    first = toy.run("retrain")
    assert first.returncode == 0, first.stderr
    assert "estimate from earlier runs: 0 of 6 stages done; time left unknown" in first.stderr
    assert "6 of 6 stages done" in first.stderr
    flow, tasks = latest(prefect_api, toy)
    assert flow["state_name"] == "Completed"
    assert flow["name"] == "default-nogit"
    assert {name: tasks[name]["state_name"] for name in STAGES} == dict.fromkeys(
        STAGES, "Completed"
    )

    artifacts = prefect_api("/artifacts/filter", {"flow_runs": {"id": {"any_": [flow["id"]]}}})
    texts = {artifact["key"]: artifact["data"] for artifact in artifacts}
    assert "| dualvla | official | all | 1/2 | 50.0% | 10.0% | 90.0% |" in texts["success"]
    assert {"retention", "quality", "plots", "report"} <= set(texts)

    where = client.place(config.load(toy.root / "params.yaml").store, toy.root)
    version = store.version(toy.root)
    assert versions.verify(where, version) == 7
    entries = versions.read_manifest(where, version)["about"]["models"]
    for model, entry in entries.items():
        assert versions.verify(where, entry) == 18
        made = aliases.read(where, model, "candidate").version
        assert entry == f"registry/{model}/{made}"
    assert set(entries) == {"dualvla", "base_ft"}
    keys = client.connect(where).list_objects_v2(Bucket=where.bucket, Prefix="dvc/")
    assert keys["KeyCount"] >= 6
    costs = {name: json.loads(file.read_text()) for name, file in timings(toy, "push", "publish")}
    assert costs["push"]["s3_sent_bytes"] >= sum(one["Size"] for one in keys["Contents"])
    assert min(costs["publish"][f"s3_{way}_bytes"] for way in ("sent", "received")) > 1000

    second = toy.run("retrain")
    assert second.returncode == 0
    _, tasks = latest(prefect_api, toy)
    assert {tasks[name]["state_name"] for name in STAGES} == {"Cached"}
    assert store.version(toy.root) == version

    # A changed parameter runs its stage, and those after it as far as they change.
    toy.patch(prune={"tolerance": 3})
    third = toy.run("retrain")
    assert third.returncode == 0, third.stderr
    _, tasks = latest(prefect_api, toy)
    assert tasks["annotate"]["state_name"] == "Cached"
    assert tasks["prune"]["state_name"] == "Completed"
    assert tasks["report"]["state_name"] == "Cached"


@pytest.mark.parametrize(
    ("code", "name"), [(2, "BadInput"), (3, "DataQualityFailed"), (1, "Failed")]
)
def test_a_failing_stage_ends_the_run_with_its_code_and_is_not_repeated(
    toy, prefect_api, code, name
):
    broken = {"exit": code, "message": "annotated: frame 3 of episode 2 -> mend it"}
    answer = toy.run("retrain", **behave(annotate=broken))
    assert answer.returncode == code, answer.stderr
    assert answer.stderr.splitlines()[-1] == f"error: annotate: {broken['message']}"
    flow, tasks = latest(prefect_api, toy)
    assert flow["state_name"] == name
    assert tasks["annotate"]["state_name"] == name
    assert tasks["annotate"]["run_count"] == 1
    assert tasks["demonstrations"]["state_name"] == "Completed"
    assert tasks["prune"]["state_type"] == "PENDING"


def test_a_killed_stage_is_repeated(toy, prefect_api, tmp_path):
    answer = toy.run("retrain", **behave(annotate={"kill_once": str(tmp_path / "killed")}))
    assert answer.returncode == 0, answer.stderr
    assert latest(prefect_api, toy)[1]["annotate"]["run_count"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_its_training(toy, number):
    flow = start(toy, annotate={"sleep": 600})
    wait_for(lambda: training(toy))
    flow.send_signal(number)
    assert flow.wait(timeout=120) != 0
    wait_for(lambda: not children(toy))


def test_after_kill_9_the_next_run_cleans_up_and_goes_on(toy, prefect_api):
    flow = start(toy, annotate={"sleep": 600})
    wait_for(lambda: training(toy) and (toy.root / "data/demonstrations").is_dir())
    assert toy.run("retrain").returncode == 2, "two runs at once"
    flow.kill()
    flow.wait()
    wait_for(lambda: not children(toy))
    zombie = latest(prefect_api, toy)[0]
    answer = toy.run("retrain")
    assert answer.returncode == 0, answer.stderr
    assert prefect_api(f"/flow_runs/{zombie['id']}")["state_type"] == "CRASHED"
    assert latest(prefect_api, toy)[1]["demonstrations"]["state_name"] == "Cached"


def test_a_profile_runs_apart_and_leaves_the_tree_as_it_was(toy):
    before = toy.files()
    answer = toy.run("retrain", "--profile", "smoke", **behave(report={"exit": 2}))
    assert answer.returncode == 2
    assert {name for name in toy.files() - before if not name.startswith(".dualvla")} <= {
        name for name in toy.files() if name.startswith(".dvc/")
    }
    folder = toy.root / ".dualvla/workspaces/smoke"
    assert config.load(folder / "params.yaml").profile == "smoke"
    assert (folder / "models/dualvla/content.txt").is_file()


def test_a_scheduled_deployment_gets_runs(toy, prefect_api):
    """SQLAlchemy 2.1 under Prefect 3.8 dropped them without a word."""
    command = [sys.executable, "-m", "dualvla.cli", "schedule", "--cron", "0 2 * * *"]
    serving = subprocess.Popen(command, cwd=toy.root, stdout=subprocess.DEVNULL)
    try:
        scheduled = {
            "deployments": {"name": {"any_": ["default"]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        wait_for(lambda: prefect_api("/flow_runs/count", scheduled) > 0)
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(timeout=120)
