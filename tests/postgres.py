"""A PostgreSQL server of a test's own, from the distribution's packages."""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "infra/postgres.sh"
USER = "postgres"  # PostgreSQL refuses to run as root


@contextlib.contextmanager
def database(name: str) -> Iterator[str]:
    """Yield the address of an empty database; the server ends with the context."""
    found = subprocess.run(["bash", str(SETUP)], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip() or "PostgreSQL could not be installed")
    programs = Path(found.stdout.strip())
    # Not under pytest's folder, which another user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="dualvla-postgres-"))
    become = {}
    if os.geteuid() == 0:
        who = pwd.getpwnam(USER)
        become = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        shutil.chown(folder, USER)
    password, port = secrets.token_hex(12), _free_port()
    (folder / "password").write_text(password)
    os.chmod(folder / "password", 0o644)
    try:
        subprocess.run(
            [
                *(programs / "initdb", "-D", folder / "data", "-U", name, "-A", "scram-sha-256"),
                *("--pwfile", folder / "password", "--no-sync", "-E", "UTF8"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **become,
        )
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", folder / "data", "-p", str(port)),
                    *(part for option in options for part in ("-c", option)),
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
                **become,
            )
        try:
            reach = ["-h", "127.0.0.1", "-p", str(port), "-U", name]
            while subprocess.run(
                [programs / "pg_isready", *reach], capture_output=True, check=False
            ).returncode:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            environ = {**os.environ, "PGPASSWORD": password}
            subprocess.run([programs / "createdb", *reach, name], env=environ, check=True)
            yield f"postgresql+asyncpg://{name}:{password}@127.0.0.1:{port}/{name}"
        finally:
            server.terminate()
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def query(address: str, text: str) -> list:
    """Rows of a query."""
    import asyncio

    import asyncpg

    async def ask() -> list:
        connection = await asyncpg.connect(address.replace("+asyncpg", ""))
        try:
            return await connection.fetch(text)
        finally:
            await connection.close()

    return asyncio.run(ask())


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
