"""What runs unattended: workers of Prefect's pools, and the secrets of a deployment.

A worker is Prefect's own, started with this project's Python, folder and variables. It acts in the
bucket with the least rights that its pool needs: only the pool `promotion` may move `production`.
"""

import os
import secrets as random
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dualvla import doctor, files, stack, workspace
from dualvla.errors import UserError
from dualvla.store import client, identities, keys
from dualvla.workspace import Workspace

POOLS = {  # work pools, each with what it is for
    "cpu": "training and evaluation on processors",
    "gpu": "training and evaluation on GPUs",
    "promotion": "promotion and rollback: its workers may move production",
}
PROMOTERS = {"promotion"}
TRAINING = [pool for pool in POOLS if pool not in PROMOTERS]
ROOT, POOL = "DUALVLA_ROOT", "DUALVLA_POOL"  # read by prefect.yaml
WEBHOOK = "DUALVLA_WEBHOOK_URL"
DEPLOYMENTS = "prefect.yaml"
DATABASE = "prefect"  # and its user


def worker_command(pool: str, name: str | None = None) -> list[str]:
    """Start Prefect's worker of a pool.

    Raises:
        UserError: no such pool.
    """
    _require_pool(pool)
    name = name or f"{pool}-{socket.gethostname()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    return [*command, "--type", "process", "--name", name]


def environment(plan: Workspace, pool: str) -> dict[str, str]:
    """Variables for a worker of a pool, or for whoever deploys to it.

    The local S3 is used with the pool's identity, unless `DUALVLA_IDENTITY` or keys are given.
    """
    _require_pool(pool)
    found = workspace.environment(plan) | stack.environment(plan.root)
    found.setdefault(keys.VARIABLE, "promoter" if pool in PROMOTERS else "trainer")
    return found | {ROOT: str(plan.root), POOL: pool}


def prepare(plan: Workspace) -> dict[str, str]:
    """Start the servers that are not elsewhere and make the local bucket; return their URLs."""
    names = doctor.needed_servers(plan)
    urls = stack.up(plan.root, names=names) if names else {}
    where = client.place(plan.params.store, plan.root, who=keys.OWNER)
    if where.local:
        client.check(where, create=True)
    return urls


def write_secrets(folder: Path, bucket: str) -> list[Path]:
    """Write the env files that infra/compose.yaml reads, with random secrets.

    Args:
        folder: for the files, which only their owner can read.
        bucket: that the identities may use.

    Raises:
        UserError: there are some already: running servers know the old ones.
    """
    if folder.exists() and any(folder.iterdir()):
        fix = "keep them, or take the stack down and remove the folder"
        raise UserError("there are secrets already", where=str(folder), fix=fix)
    pairs = {name: keys.random(name) for name in (keys.OWNER, *keys.IDENTITIES)}
    database, login = random.token_urlsafe(24), f"dualvla:{random.token_urlsafe(24)}"
    address = f"postgresql+asyncpg://{DATABASE}:{database}@postgres:5432/{DATABASE}"
    client_ = {"PREFECT_API_AUTH_STRING": login}
    contents: dict[str, Mapping[str, str]] = {
        "postgres.env": {"POSTGRES_PASSWORD": database},
        "prefect.env": {
            "PREFECT_API_DATABASE_CONNECTION_URL": address,
            "PREFECT_SERVER_API_AUTH_STRING": login,
            **client_,
        },
        "s3.env": {**pairs[keys.OWNER].environment(), **keys.signing()},
        "setup.env": {**client_, **pairs[keys.OWNER].environment()},
        "trainer.env": {**client_, **pairs["trainer"].environment()},
        "promoter.env": {**client_, **pairs["promoter"].environment()},
        "reader.env": {**client_, **pairs["reader"].environment()},
    }
    with files.replacing(folder) as beside:
        beside.mkdir(mode=0o700)
        for name, values in contents.items():
            text = "".join(f"{key}={value}\n" for key, value in values.items())
            files.write_private(beside / name, text)
        files.write_private(beside / "s3.json", identities.text(pairs, bucket))
    return sorted(folder.iterdir())


def enter_worker(root: Path, pool: str, name: str | None) -> None:
    """Start what a worker needs, then become it: a signal reaches it without a middleman."""
    plan = workspace.plan(root)
    command = worker_command(pool, name)
    prepare(plan)
    os.execve(command[0], command, environment(plan, pool))


def deploy(root: Path, pool: str, slots: int, *, bucket: bool) -> int:
    """Set up the Prefect server and send it the deployments of prefect.yaml; return an exit code.

    Args:
        root: the project's folder.
        pool: whose workers train.
        slots: how many runs may hold the GPUs at a time.
        bucket: make the bucket too, with its versioning and encryption; the keys must allow it.
    """
    if pool not in TRAINING:
        raise UserError(f"no training in pool {pool!r}", fix=f"one of {', '.join(TRAINING)}")
    plan = workspace.plan(root)
    environ = environment(plan, pool)
    if not (plan.root / DEPLOYMENTS).is_file():
        fix = "take it from the project's repository"
        raise UserError("no such file", where=str(plan.root / DEPLOYMENTS), fix=fix)
    prepare(plan)
    if bucket:
        client.check(client.place(plan.params.store, plan.root, who=keys.OWNER), create=True)
    for command in (
        ["tasks.automations", "--slots", str(slots)],
        ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", DEPLOYMENTS],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=plan.root, env=environ, check=False
        )
        if done.returncode:
            return done.returncode
    return 0


def _require_pool(pool: str) -> None:
    if pool not in POOLS:
        raise UserError(f"no pool {pool!r}", where="--pool", fix=f"one of {', '.join(POOLS)}")
