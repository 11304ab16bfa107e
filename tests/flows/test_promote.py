"""Promotion and rollback as flows: real Prefect server, real S3, a person who answers the form."""

import os
import subprocess
import sys
import time

import published_runs
import pytest
from published_runs import MODEL

from dualvla import config, stack
from dualvla.promotion import proposals
from dualvla.store import aliases, client, registry

pytestmark = pytest.mark.slow


@pytest.fixture
def where(project):
    place = client.place(config.load(project.root / "params.yaml").store, project.root)
    client.check(place, create=True)
    return place


@pytest.fixture
def publish(where, tmp_path, monkeypatch):
    def make(name: str, **planted: object) -> str:
        folder = published_runs.build(
            tmp_path / name, monkeypatch, weights=name.encode(), **planted
        )
        done = registry.publish(where, folder, MODEL, run=f"retrain/{name}", commit="abc1234")
        return done.prefix.rpartition("/")[2]

    return make


def environment(servers) -> dict[str, str]:
    return {**os.environ, **stack.environment(servers), "PYTHONPATH": os.pathsep.join(sys.path)}


def start(project, servers, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.promote", "--root", str(project.root)]
    return subprocess.Popen(
        [*command, "--model", MODEL, *arguments],
        cwd=project.root,
        env=environment(servers),
        stderr=subprocess.PIPE,
        text=True,
    )


def paused(prefect_api, version: str) -> dict:
    """The flow run of a version, once it waits."""
    wanted = {
        "flow_runs": {
            "name": {"any_": [f"promote-{MODEL}-{version}"]},
            "state": {"type": {"any_": ["PAUSED"]}},
        }
    }
    end = time.monotonic() + 120
    while not (found := prefect_api("/flow_runs/filter", wanted)):
        assert time.monotonic() < end, "it never asked"
        time.sleep(0.5)
    return found[0]


def test_a_person_decides_with_the_table_at_hand(project, servers, where, publish, prefect_api):
    version = publish("one")
    flow = start(project, servers, "--version", version, "--approve")
    try:
        waiting = paused(prefect_api, version)
        tables = prefect_api("/artifacts/filter", {"flow_runs": {"id": {"any_": [waiting["id"]]}}})
        assert f"# {MODEL} {version} may become production" in tables[0]["data"]
        assert aliases.read(where, MODEL, "production").version is None
        answer = {"approved": True, "who": "ann", "why": "looked at the films"}
        prefect_api(f"/flow_runs/{waiting['id']}/resume", {"run_input": answer})
        _, said = flow.communicate(timeout=300)
    finally:
        flow.kill()
    assert flow.returncode == 0, said
    assert aliases.read(where, MODEL, "production").version == version
    pages = (project.root / ".dualvla/decisions" / MODEL).glob("*.md")
    assert "Approved by ann: looked at the films" in next(pages).read_text()


def test_a_worse_model_is_refused_and_a_rollback_restores(
    project, servers, where, publish, tmp_path
):
    first, second, worse = publish("one"), publish("two"), publish("worse", lost=0.4)
    settings = config.load(project.root / "params.yaml").promotion
    for version in (first, second):
        proposal = proposals.propose(where, MODEL, version, settings)
        proposals.carry_out(where, proposal, tmp_path)
    flow = start(project, servers, "--version", worse, "--approve")
    _, said = flow.communicate(timeout=300)
    assert flow.returncode == 3, said
    assert "stays candidate: it is not shown to be as good" in said
    assert aliases.read(where, MODEL, "production").version == second
    code = f"from flows.promote import rollback; rollback({MODEL!r}, root={str(project.root)!r})"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env=environment(servers),
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert aliases.read(where, MODEL, "production").version == first
