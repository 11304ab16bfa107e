"""Low-rank adapters on every family's decoder: trained, merged, stored, loaded and acting."""

import numpy as np
import pytest
import tiny_policy
import torch
from family_models import COMMANDS, FAMILIES, batches
from family_models import policy as family_policy
from tiny_policy import params, pictures

from dualvla.errors import UserError
from dualvla.evaluation.acting import ModelPolicy
from dualvla.interface import Observation
from dualvla.models import families, lora
from dualvla.models import policy as policies
from dualvla.models.inference import encode
from dualvla.training import loop
from dualvla.training import policies as training


@pytest.fixture(params=["tiny", *FAMILIES])
def model(request, tmp_path):
    if request.param == "tiny":
        return tiny_policy.policy()
    return family_policy(tmp_path, request.param)


def fit(model, folder, steps=2, stop_at=None):
    made = batches(model)

    def batch(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return made(step)

    run = loop.Run("lora", batch, training.objective(model, 1.0), list, folder)
    settings = params().specialist.model_copy(update={"steps": steps, "checkpoint_every": 1})
    return loop.fit(model, run, settings)


@torch.no_grad()
def latents(model):
    processor = model.processor
    prompts = [processor.robot_prompt(c) for c in COMMANDS]
    sequences = processor.pad(prompts, [processor.reasoning(None)] * len(COMMANDS))
    return model(encode(model, pictures(1) * len(COMMANDS)), sequences)[1]


def test_adapters_train_and_leave_a_plain_checkpoint_that_acts(model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = latents(model)
    adapters = lora.adapt(model, 4, seed=0)
    torch.testing.assert_close(latents(model), plain)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in n or n.startswith(("queries", "expert.")) for n in trained)
    projections = families.of(model.vlm.config).projections
    assert all(any(f".{p}.lora_B" in n for n in trained) for p in projections)
    fit(model, tmp_path / "checkpoint")
    adapted = latents(model)
    lora.merge(adapters)
    after = model.state_dict()
    assert after.keys() == before.keys()
    torch.testing.assert_close(latents(model), adapted, atol=1e-4, rtol=1e-4)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert all(
        n.startswith(("queries", "expert.")) or any(p in n for p in projections) for n in moved
    )
    assert {p for p in projections if any(f".{p}.weight" in n for n in moved)} == set(projections)

    model.write(tmp_path, resolved={}, environment={})
    loaded = policies.load(tmp_path)
    torch.testing.assert_close(latents(loaded), latents(model), atol=0, rtol=0)
    settings = params().evaluate.model_copy(update={"reason": "always"})
    acting = ModelPolicy(tmp_path, settings, seed=0)
    zeros = np.zeros(7, np.float32)
    seen = Observation(pictures(1)[0], zeros, zeros[:6], np.zeros(1, np.float32), "put")
    acting.reset(0, "put", seed=0)
    decision = acting.act([0], [seen])[0]
    assert np.isfinite(decision.actions).all()
    assert decision.tokens > 1


def test_a_stopped_run_goes_on_with_its_adapters(tmp_path):
    def adapted():
        model = tiny_policy.policy()
        return model, lora.adapt(model, 2, seed=0)

    whole, _ = adapted()
    fit(whole, tmp_path / "whole", steps=4)
    stopped, _ = adapted()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, tmp_path / "stopped", steps=4, stop_at=2)
    resumed, _ = adapted()
    fit(resumed, tmp_path / "stopped", steps=4)
    again = resumed.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.state_dict().items())


def test_a_decoder_without_the_projections_is_refused(monkeypatch):
    model = tiny_policy.policy()
    other = families.Family(families.of(model.vlm.config).encode, projections=("query",))
    monkeypatch.setattr(families, "of", lambda _: other)
    with pytest.raises(UserError, match=r"model\.lora_rank: .*none of query"):
        lora.adapt(model, 2, seed=0)
