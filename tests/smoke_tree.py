"""A copy of the repository in which a flow runs on the smoke profile with servers of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import prefect_calls

from dualvla import stack, workspace


@dataclass(frozen=True)
class Tree:
    """A copy of the repository."""

    root: Path

    def run(self, flow: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dualvla.cli", flow, "--profile", "smoke"]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)

    @property
    def folder(self) -> Path:
        return self.root / workspace.WORKSPACES / "smoke"


def api(root: Path, path: str, body: object | None = None):
    return prefect_calls.call(stack.environment(root)["PREFECT_API_URL"], path, body)


def latest(tree: Tree) -> tuple[dict, dict[str, dict]]:
    wanted = {"sort": "START_TIME_DESC", "limit": 1}
    flow = api(tree.root, "/flow_runs/filter", wanted)[0]
    tasks = api(tree.root, "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow["id"]]}}})
    return flow, {task["name"]: task for task in tasks}
