import math

import pytest
import torch
from tiny_policy import params, policy, processor
from torch import nn

from dualvla.models import vision
from dualvla.training import conflict, loop, losses, samples

PROCESSOR = processor()


def mixer(text="subtask: grasp the carrot"):
    """Four robot frames a batch, each with a text or none of them."""
    draw = torch.Generator().manual_seed(0)
    encoded = torch.randn(4, vision.NUM_TOKENS, 96, generator=draw)
    shape, count = params().model, len(encoded)
    robot = samples.RobotSamples(
        encoded=encoded,
        actions=torch.randn(count, shape.chunk, 7, generator=draw).clamp(-1, 1),
        state=torch.zeros(count, 7),
        prompts=[PROCESSOR.robot_prompt("put carrot on plate")] * count,
        plain=[PROCESSOR.robot_prompt("put carrot on plate")] * count,
        answers=[PROCESSOR.reasoning(text)] * count,
        labelled=text is not None,
    )
    return samples.Mixer(PROCESSOR, count, 0.0, 0, robot)


def objective(model, weight=1.0):
    def compute(batch):
        outputs = losses.run(model, batch)
        flow, language = losses.flow(outputs, batch), losses.language(outputs)
        return {"loss": flow + weight * language, "flow": flow, "language": language}

    return compute


def trained(folder, probed, steps=6, fail_at=None):
    model, batches = policy(), mixer()

    def batch(step):
        if step == fail_at:
            raise KeyboardInterrupt
        return batches(step)

    probe = conflict.probe(model) if probed else None
    run = loop.Run("test", batch, objective(model), dict, folder, probe)
    settings = params().specialist.model_copy(update={"checkpoint_every": 2})
    return model, loop.fit(model, run, settings, steps=steps)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_probed_run_ends_with_the_same_weights_and_curve(tmp_path):
    plain, metrics = trained(tmp_path / "plain", probed=False)
    probed, more = trained(tmp_path / "probed", probed=True)
    assert same(plain, probed)
    assert [p["step"] for p in more.pop("probes")] == list(range(6))
    assert more == metrics


def test_a_stopped_run_has_all_its_probes_once(tmp_path):
    _, whole = trained(tmp_path / "whole", probed=True)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", probed=True, fail_at=5)
    _, resumed = trained(tmp_path / "stopped", probed=True)
    assert resumed["probes"] == whole["probes"]


def test_the_cosine_is_that_of_the_losses_own_gradients():
    model, batch = policy(), mixer()(0)
    found = conflict.probe(model)(batch)
    gradients = {}
    for name in ("flow", "language"):
        model.zero_grad()
        objective(model)(batch)[name].backward()
        parts = [p.grad for p in conflict.trunk(model) if p.grad is not None]
        gradients[name] = torch.cat([part.flatten() for part in parts]).double()
    flow, language = gradients["flow"], gradients["language"]
    assert found["flow_norm"] == pytest.approx(float(flow.norm()), rel=1e-4)
    assert found["language_norm"] == pytest.approx(float(language.norm()), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(flow, language, dim=0)
    assert found["cosine"] == pytest.approx(float(cosine), abs=1e-4)
    assert -1 <= found["cosine"] <= 1


def test_gradients_and_random_numbers_are_left_alone():
    model, batch = policy(), mixer()(0)
    objective(model)(batch)["loss"].backward()
    before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = torch.random.get_rng_state()
    conflict.probe(model)(batch)
    after = [p.grad for p in model.parameters()]
    assert all(a is b or torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_batch_without_answers_has_no_cosine():
    found = conflict.probe(policy())(mixer(text=None)(0))
    assert found["cosine"] is None
    assert found["language_norm"] == 0
    assert math.isfinite(found["flow_norm"])


def test_the_language_head_is_no_part_of_the_trunk():
    model = policy()
    words = model.vlm.get_input_embeddings().weight
    assert all(p is not words for p in conflict.trunk(model))
    assert conflict.trunk(model)
