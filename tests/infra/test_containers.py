"""compose.yaml and the Dockerfiles, without Docker: their schema, and what must hold of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

from dualvla import deployment, stack
from dualvla.errors import UserError
from dualvla.store import client, identities, keys

REPOSITORY = Path(__file__).parents[2]
INFRA = REPOSITORY / "infra"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def test_compose_follows_the_specification(compose):
    specification = get_builtin_schema("vendor.compose-spec")
    schema = validator_for(specification)(specification)
    assert [error.message for error in schema.iter_errors(compose)] == []
    broken = {**compose, "services": {"s3": {"imagge": "x"}}}
    assert list(schema.iter_errors(broken)), "the schema takes anything"


def test_ports_are_published_on_loopback_alone(compose):
    published = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_is_hardened(compose):
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] not in ("root", "0"), name
        assert "privileged" not in service, name


def test_secrets_come_from_files_that_are_not_in_git(compose, tmp_path):
    written = {path.name for path in deployment.write_secrets(tmp_path / "env", "artifacts")}
    named = {
        Path(entry["path"]).name
        for service in compose["services"].values()
        for entry in service.get("env_file", [])
    }
    named |= {Path(secret["file"]).name for secret in compose["secrets"].values()}
    assert named <= written
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "infra/env/s3.env"], cwd=REPOSITORY, check=False
    )
    assert ignored.returncode in (0, 128)  # 128: no repository here
    text = (INFRA / "compose.yaml").read_text()
    for word in ("PASSWORD", "SECRET", "AUTH_STRING", "CONNECTION_URL"):
        assert word not in text


def test_written_secrets_are_private_random_and_never_replaced(tmp_path):
    folder = tmp_path / "env"
    paths = deployment.write_secrets(folder, "artifacts")
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    other = deployment.write_secrets(tmp_path / "other", "artifacts")
    for mine, theirs in zip(paths, other, strict=True):
        assert mine.read_text() != theirs.read_text()
    with pytest.raises(UserError, match="there are secrets already"):
        deployment.write_secrets(folder, "artifacts")
    s3 = json.loads((folder / "s3.json").read_text())
    assert [one["name"] for one in s3["identities"]] == list(keys.IDENTITIES)
    assert "arn:aws:s3:::artifacts/" in s3["policies"][0]["content"]
    assert read_env(folder / "trainer.env")["AWS_ACCESS_KEY_ID"].startswith("trainer-")
    server, clients = read_env(folder / "prefect.env"), read_env(folder / "trainer.env")
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == clients["PREFECT_API_AUTH_STRING"]


def read_env(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_compose_runs_what_runs_natively(compose, tmp_path):
    """The S3 server with the options of the local stack, workers of the pools that exist."""
    services = compose["services"]
    native = next(one for one in stack.services(tmp_path) if one.name == "s3").command
    ours = {option.split("=")[0] for option in services["s3"]["command"] if option.startswith("-")}
    theirs = {option.split("=")[0] for option in native[1:] if option.startswith("-")}
    # Each server has a container's ports for itself.
    assert {option for option in theirs - ours if ".port" not in option} == set()
    assert services["prefect"]["command"][:3] == ["prefect", "server", "start"]
    pools = {services[name]["command"][-1] for name in ("worker", "promoter", "worker-gpu")}
    assert pools == set(deployment.POOLS)
    assert services["worker"]["environment"][client.ENDPOINT] == "http://s3:8333"
    assert services["worker"]["environment"][deployment.ROOT] == "/opt/dualvla"
    assert f"-volume.max={stack.S3_VOLUMES}" in services["s3"]["command"]


def test_only_the_promoter_holds_the_keys_that_move_production(compose):
    holders = {
        name: [Path(entry["path"]).stem for entry in service.get("env_file", [])]
        for name, service in compose["services"].items()
    }
    assert [name for name, files in holders.items() if "promoter" in files] == ["promoter"]
    assert holders["worker"] == holders["worker-gpu"] == ["trainer"]
    assert [n for n, files in holders.items() if {"s3", "setup"} & set(files)] == ["s3", "setup"]


def test_every_option_of_the_command_line_exists(compose):
    """`dualvla ...` in compose.yaml is understood by the program."""
    for service in compose["services"].values():
        command = service.get("command", [])
        if command[:1] != ["dualvla"]:
            continue
        help_ = subprocess.run(
            [sys.executable, "-m", "dualvla.cli", command[1], "--help"],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            check=True,
        ).stdout
        assert all(word in help_ for word in command[2:] if word.startswith("--")), command


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_dockerfiles_pass_the_linter_and_do_not_run_as_root(name):
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    found = subprocess.run(
        [hadolint, "--config", str(INFRA / "hadolint.yaml"), str(INFRA / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    users = [line.split()[1] for line in read(name) if line.startswith("USER ")]
    assert users
    assert users[-1] == "1000:1000"


def test_the_linter_finds_faults(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo apt-get install x\n")
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    config = ["--config", str(INFRA / "hadolint.yaml")]
    assert subprocess.run(
        [hadolint, *config, str(bad)], capture_output=True, check=False
    ).returncode


def test_what_dockerfiles_copy_exists_and_secrets_stay_out():
    for line in read("Dockerfile"):
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (REPOSITORY / source).exists(), source
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    assert {"infra/env", ".dualvla", ".dvc/config.local", ".venv"} <= set(ignored)


def read(name: str) -> list[str]:
    return (INFRA / name).read_text().splitlines()


def test_identity_files_are_what_compose_gives_to_the_server(tmp_path):
    pairs = {name: keys.random(name) for name in keys.IDENTITIES}
    written = json.loads(identities.text(pairs, "artifacts"))
    assert {one["name"]: one["policyNames"] for one in written["identities"]} == {
        "reader": ["reader"],
        "trainer": ["reader", "trainer"],
        "promoter": ["reader", "promoter"],
    }
