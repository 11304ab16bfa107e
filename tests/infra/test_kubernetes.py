"""Kubernetes manifests against the schemas of a cluster, and the GPU job as Prefect renders it."""

import json
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from prefect.utilities.schema_tools import validate
from prefect.utilities.templating import apply_values, find_placeholders

from dualvla import deployment

FOLDER = Path(__file__).parents[2] / "infra/kubernetes"
VERSION = "1.31"  # of the cluster
POOLED = {"worker": "cpu", "promoter": "promotion"}


def manifests():
    return [
        one
        for path in sorted(FOLDER.glob("*.yaml"))
        for one in yaml.safe_load_all(path.read_text())
    ]


def named(kind: str):
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def job(**values):
    """The job that a worker would start, with variables as a user gives them."""
    template = json.loads((FOLDER / "gpu-job.json").read_text())
    schema = template["variables"]
    validate(values, schema, raise_on_error=True)
    defaults = {k: v["default"] for k, v in schema["properties"].items() if "default" in v}
    given = {"name": "run", "command": "prefect flow-run execute", "labels": {}} | defaults | values
    made = apply_values(template["job_configuration"], given)["job_manifest"]
    container = made["spec"]["template"]["spec"]["containers"][0]
    # As Prefect's worker does after rendering.
    container["args"] = container["args"].split()
    container["env"] = [{"name": key, "value": value} for key, value in container["env"].items()]
    return made


def pods():
    found = {name: one["spec"]["template"]["spec"] for name, one in named("Deployment").items()}
    return found | {"gpu job": job()["spec"]["template"]["spec"]}


@pytest.mark.parametrize("one", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_a_manifest_follows_its_schema(one):
    kubernetes_validate.validate(one, VERSION, strict=True)


def test_the_schema_refuses_a_misspelt_field():
    wrong = named("Deployment")["worker"]
    wrong["spec"]["template"]["spec"]["containers"][0]["volumeMountz"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_the_gpu_job_follows_its_schema_and_takes_variables():
    made = job(gpus=2, memory="96Gi", env={"DUALVLA_LAUNCH": "infra/accelerate/fsdp-8.yaml"})
    kubernetes_validate.validate(made, VERSION, strict=True)
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "96Gi", "nvidia.com/gpu": 2}
    assert made["spec"]["activeDeadlineSeconds"] == 86400
    with pytest.raises(Exception, match="less than the minimum"):
        job(gpus=0)


def test_the_gpu_jobs_template_uses_each_variable_and_no_other():
    template = json.loads((FOLDER / "gpu-job.json").read_text())
    used = {one.name for one in find_placeholders(template["job_configuration"])}
    assert used == set(template["variables"]["properties"])


@pytest.mark.parametrize("name", pods())
def test_a_pod_has_no_more_rights_than_it_needs(name):
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert ":" in container["image"]
        assert not container["image"].endswith(":latest")
    # The one that starts jobs must speak to the cluster.
    assert pod["automountServiceAccountToken"] is (name == "gpu-worker")


def test_secrets_are_referred_to_and_never_written():
    assert not named("Secret")
    for name, pod in pods().items():
        for container in pod["containers"]:
            for variable in container.get("env", []):
                words = variable["name"].split("_")
                if {"SECRET", "PASSWORD", "TOKEN", "AUTH"} & set(words):
                    assert "valueFrom" in variable, (name, variable["name"])
    of = {
        name: [s["secretRef"]["name"] for s in pod["containers"][0]["envFrom"] if "secretRef" in s]
        for name, pod in pods().items()
    }
    assert of["prefect"] == ["prefect-server"]
    assert of["promoter"] == ["promoter"]
    assert of["worker"] == of["gpu job"] == ["trainer"]
    assert of["gpu-worker"] == []


def test_each_identity_of_the_bucket_is_a_service_account_of_its_own():
    accounts = {name: pod.get("serviceAccountName") for name, pod in pods().items()}
    assert accounts["worker"] == accounts["gpu job"] == "trainer"
    assert accounts["promoter"] == "promoter"
    made = set(named("ServiceAccount"))
    assert {name for name in accounts.values() if name} <= made


def test_workers_take_the_pools_that_exist():
    for name, pool in POOLED.items():
        args = named("Deployment")[name]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args == ["dualvla", "worker", "--pool", pool]
        assert pool in deployment.POOLS


def test_names_that_manifests_refer_to_exist():
    claims, maps = set(named("PersistentVolumeClaim")), set(named("ConfigMap"))
    for name, pod in pods().items():
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
        mounted = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for source in pod["containers"][0].get("envFrom", []):
            assert source.get("configMapRef", {"name": "clients"})["name"] in maps
    service = named("Service")["prefect"]["spec"]
    labels = named("Deployment")["prefect"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


def test_only_clients_reach_the_server():
    policies = named("NetworkPolicy")
    assert policies["closed"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    allowed = policies["prefect"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    templates = {
        n: d["spec"]["template"]["metadata"]["labels"] for n, d in named("Deployment").items()
    }
    templates["gpu job"] = job()["spec"]["template"]["metadata"]["labels"]
    clients = {name for name, labels in templates.items() if allowed.items() <= labels.items()}
    assert clients == {"worker", "promoter", "gpu-worker", "gpu job"}


def test_the_gpu_worker_may_only_start_and_watch_jobs():
    rules = named("Role")["gpu-worker"]["rules"]
    writes = {
        (resource, verb)
        for rule in rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in ("get", "list", "watch")
    }
    assert {resource for resource, _ in writes} == {"jobs"}
    assert not named("ClusterRole")
