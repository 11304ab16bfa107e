import os
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import params
from torch import nn

from dualvla.errors import UserError
from dualvla.training import loop

SETTINGS = params().specialist


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 30))
def test_an_epoch_sees_every_sample_once(seed, size, total):
    steps = [loop.sample(seed, step, size, total) for step in range(total)]
    seen = np.concatenate(steps)
    for epoch in range(len(seen) // total):
        assert sorted(seen[epoch * total : (epoch + 1) * total]) == list(range(total))


def test_learning_rate_rises_then_falls_to_a_tenth():
    rates = [loop.learning_rate(s, SETTINGS, 100, 1.0) for s in range(100)]
    assert rates.index(max(rates)) == round(SETTINGS.warmup * 100) - 1
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(b <= a for a, b in pairwise(rates[5:]))


def fitted(folder, steps=6, fail_at=None, name="test"):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def batch(step):
        if step == fail_at:
            raise KeyboardInterrupt
        return torch.randn(4, 3, generator=loop.generator(1, step))

    def losses(x):
        return {"loss": model(x).float().square().mean()}

    run = loop.Run(name, batch, losses, dict, folder)
    settings = SETTINGS.model_copy(update={"checkpoint_every": 2})
    metrics = loop.fit(model, run, settings, steps=steps)
    return model.weight.detach().clone(), metrics


def test_a_stopped_run_ends_with_the_same_weights_and_curve(tmp_path):
    whole, metrics = fitted(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "stopped", fail_at=5)
    resumed, again = fitted(tmp_path / "stopped")
    assert torch.equal(whole, resumed)
    assert metrics == again


def test_a_loss_that_is_not_finite_is_refused(tmp_path):
    model = nn.Linear(1, 1)
    run = loop.Run(
        "bad", lambda _: None, lambda _: {"loss": model.weight.sum() * np.nan}, dict, tmp_path / "c"
    )
    with pytest.raises(UserError, match="step 0 is not finite"):
        loop.fit(model, run, SETTINGS)


KILLED = """
    import os, signal, sys, torch
    from pathlib import Path
    from torch import nn
    from dualvla import config
    from dualvla.training import loop

    folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2))
    def batch(step):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randn(4, 3, generator=loop.generator(1, step))
    settings = config.load().specialist.model_copy(update={"checkpoint_every": 3})
    loss = lambda x: {"loss": model(x).float().square().mean()}
    run = loop.Run("killed", batch, loss, dict, folder)
    loop.fit(model, run, settings, steps=10)
    torch.set_printoptions(precision=10)
    print([p.double().sum().item() for p in model.parameters()])
"""


def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    def start(name, kill_at):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path / name, str(kill_at)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    whole = start("whole", -1)
    assert start("killed", 8).returncode == -signal.SIGKILL
    resumed = start("killed", -1)
    assert "resumed at step 6" in resumed.stdout
    assert whole.returncode == 0
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]
