"""A tiny checkpoint, no judge of whoever runs this, and lmms-eval's own environment."""

import os
import subprocess

import pytest
import tiny_policy
from judge_endpoint import ENDS

from dualvla.evaluation.multimodal import environment


@pytest.fixture(autouse=True)
def _no_judge(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ENDS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of an untrained policy."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    tiny_policy.policy().write(folder, resolved={}, environment={})
    return folder


@pytest.fixture(scope="session")
def lmms_eval():
    """The environment that users set up, built here if it is missing."""
    done = subprocess.run(
        ["bash", environment.SETUP], check=False, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return environment.python()
