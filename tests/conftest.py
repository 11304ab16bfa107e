"""A local stack on free ports, and a toy project whose stages take no time.

Servers, DVC and Prefect are the real ones; only the stages are toys.
"""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import prefect_calls
import pytest
from hypothesis import HealthCheck, settings

from dualvla import stack

# A busy machine is slow, and a found counter-example must be found again by whoever looks.
settings.register_profile(
    "dualvla", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dualvla")

REPOSITORY = Path(__file__).parents[1]
TOY = Path(__file__).parent / "toy"


def free_port_base(count: int = stack.S3_PORT_COUNT + 1) -> int:
    for base in range(21000 + os.getpid() % 97 * 100, 60000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, one in enumerate(sockets):
                one.bind((stack.HOST, base + offset))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return base
    raise AssertionError("no free ports")


@pytest.fixture(scope="session")
def free_ports():
    """A function that finds a row of free ports."""
    return free_port_base


@pytest.fixture
def port_base(free_ports) -> int:
    return free_ports()


@pytest.fixture(scope="session")
def s3_root(tmp_path_factory):
    """The root of a stack of which S3 runs, stopped when the tests end."""
    root = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(stack.PORT_BASE, str(free_port_base()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        stack.up(root, names=("s3",))
        yield root
        stack.down(root)


@pytest.fixture(scope="session")
def servers(s3_root):
    """The root of a running stack, with Prefect too."""
    stack.up(s3_root)
    return s3_root


@dataclass(frozen=True)
class Project:
    """A copy of the toy project."""

    root: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the `dualvla` command in it."""
        command = [sys.executable, "-m", "dualvla.cli", *arguments]
        return subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, **environment},
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )

    def files(self) -> set[str]:
        """Every file in it but Python's caches."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def patch(self, **sections: object) -> None:
        """Change params.yaml."""
        import yaml

        from dualvla import config

        path = self.root / "params.yaml"
        values = config.merge(config.read_yaml(path), sections)
        path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture
def bare_project(tmp_path, monkeypatch) -> Project:
    """The toy project without servers."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "project"
    shutil.copytree(TOY, root)
    shutil.copy(REPOSITORY / "params.yaml", root)
    shutil.copytree(REPOSITORY / "params", root / "params")
    project = Project(root)
    project.patch(simulation={"workers": 2}, threads=1)
    (root / ".dvc").mkdir()
    settings = "[core]\n    no_scm = true\n    analytics = false\n    remote = store\n"
    (root / ".dvc" / "config").write_text(settings)
    return project


@pytest.fixture
def project(bare_project, servers) -> Project:
    """The toy project with the shared stack as its own."""
    state = bare_project.root / stack.STATE
    state.mkdir()
    for path in [
        *(servers / stack.STATE).glob("*.pid.json"),
        servers / stack.STATE / "credentials",
    ]:
        shutil.copy(path, state)
    # Each project has its own bucket, or they would find each other's versions.
    bucket = "b" + "".join(c for c in bare_project.root.parent.name.lower() if c.isalnum())[-40:]
    bare_project.patch(store={"bucket": bucket})
    return bare_project


@pytest.fixture
def prefect_api(servers):
    """GET and POST to the stack's Prefect server."""
    url = stack.status(servers)["prefect"][0]
    return functools.partial(prefect_calls.call, f"{url}/api")


@pytest.fixture
def single_precision(monkeypatch):
    """For what is computed in two ways: in bf16 rows round by what they are batched with."""
    from accelerate.state import AcceleratorState

    from dualvla.training import loop

    monkeypatch.setattr(loop, "precision", lambda: "no")
    # A process has one precision, that of its first training.
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture
def interruptible():
    """A shell's background jobs ignore SIGINT, and so would every process that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
