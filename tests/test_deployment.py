"""Workers act with the least rights that their pool needs; what is missing is said at once."""

import sys
from pathlib import Path

import pytest
import yaml

from dualvla import deployment, workspace
from dualvla.store import keys


@pytest.fixture
def plan(bare_project, monkeypatch):
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    return workspace.plan(bare_project.root)


@pytest.mark.parametrize(
    ("pool", "identity"), [("cpu", "trainer"), ("gpu", "trainer"), ("promotion", "promoter")]
)
def test_a_pool_has_its_identity_and_the_projects_folder(plan, pool, identity):
    environ = deployment.environment(plan, pool)
    assert environ[keys.VARIABLE] == identity
    assert environ[deployment.ROOT] == str(plan.root)
    assert environ["PREFECT_HOME"].startswith(str(plan.root))
    assert environ["PREFECT_API_URL"].startswith("http://127.0.0.1:")


def test_a_server_elsewhere_and_a_chosen_identity_are_kept(plan, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    monkeypatch.setenv(keys.VARIABLE, "reader")
    environ = deployment.environment(plan, "cpu")
    assert environ["PREFECT_API_URL"] == "http://prefect.example/api"
    assert environ[keys.VARIABLE] == "reader"


def test_a_worker_is_prefects_own_with_this_python():
    command = deployment.worker_command("gpu", "here")
    assert command[:4] == [sys.executable, "-m", "prefect", "worker"]
    assert command[command.index("--pool") + 1] == "gpu"
    assert command[command.index("--name") + 1] == "here"


def test_an_unknown_pool_starts_nothing(bare_project):
    before = bare_project.files()
    answer = bare_project.run("worker", "--pool", "tpu")
    assert answer.returncode == 2
    assert answer.stderr == "error: --pool: no pool 'tpu' -> one of cpu, gpu, promotion\n"
    assert bare_project.files() == before


def test_a_project_without_deployments_starts_nothing(bare_project):
    before = bare_project.files()
    answer = bare_project.run("deploy")
    assert answer.returncode == 2
    assert "prefect.yaml: no such file" in answer.stderr
    assert bare_project.files() == before


def test_deployments_name_flows_that_exist_and_their_parameters():
    from prefect.flows import load_flow_from_entrypoint

    text = (Path(__file__).parents[1] / deployment.DEPLOYMENTS).read_text()
    listed = yaml.safe_load(text)["deployments"]
    names = {"nightly", "weekly", "watch", "on-demand", "promote", "rollback"}
    assert {one["name"] for one in listed} == names
    for one in listed:
        flow = load_flow_from_entrypoint(one["entrypoint"])
        assert set(one["parameters"]) <= set(flow.parameters.properties), one["name"]
        # A person fills the form in the UI: it says what each field means.
        for name, field in flow.parameters.properties.items():
            assert field.get("description"), (one["name"], name)
        assert one["description"]
        pool = one["work_pool"]["name"]
        assert pool == f"{{{{ ${deployment.POOL} }}}}" or pool in deployment.POOLS
        assert (pool == "promotion") == one["entrypoint"].startswith("flows.promote")


def test_a_watch_retrains_by_a_deployment_that_exists():
    listed = {
        one["name"]: one
        for one in yaml.safe_load((Path(__file__).parents[1] / deployment.DEPLOYMENTS).read_text())[
            "deployments"
        ]
    }
    flow, _, name = listed["watch"]["parameters"]["retrain"].partition("/")
    assert listed[name]["entrypoint"] == f"flows.{flow}.{flow}"
