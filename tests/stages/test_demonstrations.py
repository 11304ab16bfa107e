import os
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from dualvla import config, files, paths
from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.stages import demonstrations

PARAMS = config.read_yaml("params.yaml")


def params(workers=1, **changes):
    patch = {
        "simulation": {"tasks": ["stack"], "workers": workers, "image_size": 64},
        "demonstrations": {"per_task": 2} | changes,
    }
    return config.parse(config.merge(PARAMS, patch))


class Scripted(demonstrations.Attempts):
    """Attempts whose outcomes are given instead of simulated."""

    def __init__(self, outcomes, crashes=0):
        self._workers, self._restarts, self.tried = 2, 0, 0
        self.outcomes, self.crashes = outcomes, crashes

    def _start(self):
        return None

    def _submit(self, task, number):
        future = Future()
        if self.crashes:
            self.crashes -= 1
            future.set_exception(BrokenProcessPool())
            return future
        future.set_result(self.outcomes[number] if number < len(self.outcomes) else None)
        return future


def test_the_first_successes_by_number_are_kept():
    attempts = Scripted(["a", None, "b", "c"])
    assert list(attempts.successes("stack", 2)) == ["a", "b"]
    assert attempts.tried == 3


def test_after_a_crash_the_attempts_under_way_are_repeated():
    attempts = Scripted(["a", "b", None, "c"], crashes=2)
    assert list(attempts.successes("stack", 3)) == ["a", "b", "c"]


def test_a_pool_that_keeps_crashing_is_an_error():
    with pytest.raises(BrokenProcessPool):
        list(Scripted(["a"], crashes=99).successes("stack", 1))


def test_an_expert_that_keeps_failing_is_given_up():
    attempts = Scripted(["a"])
    with pytest.raises(UserError, match="succeeded in 1 of 20 attempts at stack"):
        list(attempts.successes("stack", 5))


@pytest.mark.sim
@pytest.mark.slow
def test_stage_writes_the_same_bytes_with_one_worker_and_two(tmp_path, monkeypatch):
    # The pack the rest of this process uses, whatever the working directory.
    monkeypatch.setenv(
        "DUALVLA_CACHE", os.environ.get("DUALVLA_CACHE", str(Path(".cache").resolve()))
    )
    sums = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        monkeypatch.chdir(folder)
        demonstrations.main(params(workers))
        sums.append(files.sha256(paths.DEMONSTRATIONS))
    assert sums[0] == sums[1]
    dataset = lerobot.open_dataset(paths.DEMONSTRATIONS)
    assert len(dataset.episodes) == 2
    assert dataset.about.cameras["stack"]["intrinsic"]
    metrics = files.read_json(paths.DEMONSTRATIONS / "metrics.json")
    assert metrics["tasks"]["stack"]["kept"] == 2
    controllers, actions = dataset.column(lerobot.CONTROLLER), dataset.column(lerobot.ACTION)
    assert np.isfinite(controllers).all()
    assert set(np.unique(actions[:, 6])) == {-1.0, 1.0}
