"""The retrain flow on the toy project: real DVC, real Prefect server, real S3."""

import json

import pytest

MODELS = {"models": ["dualvla", "base_ft"]}


@pytest.fixture
def toy(project):
    project.patch(evaluate=MODELS)
    return project


def test_runs_then_everything_is_cached(toy, prefect_api):
    first = toy.run("retrain")
    print(first.stdout, first.stderr)
    assert first.returncode == 0, first.stderr
