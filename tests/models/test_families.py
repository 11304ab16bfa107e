"""Every family through the same few functions, beside what the model itself computes."""

import numpy as np
import pytest
import torch
from family_models import FAMILIES, SIZES, build, policy
from tiny_policy import params, pictures

from dualvla.interface import Observation
from dualvla.models import families, generation
from dualvla.models import policy as policies
from dualvla.models import vlm as vlms
from dualvla.models.acting import ModelPolicy, encode
from dualvla.training import loop, policies as training, samples

COMMANDS = ["put", "put the carrot on the plate now"]


@pytest.fixture(params=FAMILIES)
def model(request, tmp_path):
    return policy(tmp_path, request.param)


def sequences(model, commands=COMMANDS, answer=None):
    processor = model.processor
    prompts = [processor.robot_prompt(c) for c in commands]
    return processor.pad(prompts, [processor.reasoning(answer)] * len(commands))


@torch.no_grad()
def latents(model, commands):
    encoded = encode(model, pictures(1) * len(commands))
    return model(encoded, sequences(model, commands))[1]


def own_inputs(model, shown, ids):
    """What the model's own processor would hand to its `forward`."""
    pixels = model.processor.images(shown)
    kind = model.vlm.config.model_type
    if kind in ("smolvlm", "idefics3"):
        mask = torch.ones(len(shown), 1, *pixels.shape[2:], dtype=torch.long)
        return {"pixel_values": pixels[:, None], "pixel_attention_mask": mask}
    if kind == "qwen2_5_vl":
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        patch = model.vlm.config.vision_config.patch_size
        made = Qwen2VLImageProcessorPil(patch_size=patch)(shown, return_tensors="pt")
        return {**made, "mm_token_type_ids": (ids == model.processor.image_id).int()}
    return {"pixel_values": pixels}


@pytest.mark.parametrize("family", [*FAMILIES, "idefics3", "internvl"])
@torch.no_grad()
def test_logits_are_those_of_the_models_own_forward(family, tmp_path):
    model = policy(tmp_path, family)
    vlm, batch = model.vlm, sequences(model)
    size = model.processor.image_size
    draw = np.random.default_rng(0)
    shown = [draw.integers(0, 255, (size, size, 3), np.uint8) for _ in COMMANDS]
    ids, mask = batch.input_ids, batch.attention_mask
    own = vlm(input_ids=ids, attention_mask=mask, **own_inputs(model, shown, ids)).logits
    embeddings = vlms.embed(vlm, ids, vlms.project(vlm, encode(model, shown)))
    hidden = vlms.read(vlm, embeddings, mask, vlms.positions(mask), model.processor.picture)
    read = mask.bool()
    torch.testing.assert_close(vlm.lm_head(hidden)[read], own[read], atol=1e-4, rtol=1e-4)


def test_padding_changes_nothing(model):
    alone, beside = latents(model, COMMANDS[:1]), latents(model, COMMANDS)
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-5)


def test_the_picture_reaches_the_latents(model):
    one, two = (encode(model, pictures(1, seed)) for seed in (0, 1))
    with torch.no_grad():
        seen = [model(e, sequences(model, COMMANDS[:1]))[1] for e in (one, two)]
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_a_saved_policy_loads_bit_for_bit(model, tmp_path):
    model.write(tmp_path, resolved={}, environment={})
    again = policies.load(tmp_path)
    assert torch.equal(latents(model, COMMANDS), latents(again, COMMANDS))
    assert again.processor.to_json() == model.processor.to_json()
    assert sequences(again).input_ids.equal(sequences(model).input_ids)


def test_two_steps_move_what_is_trained_and_nothing_else(model, tmp_path):
    before = {name: value.clone() for name, value in model.named_parameters()}
    batch = batches(model)
    settings = params().specialist.model_copy(update={"steps": 2})
    compute = training.objective(model, 1.0)
    run = loop.Run("family", batch, compute, dict, tmp_path / "checkpoint")
    curve = loop.fit(model, run, settings)["curve"]
    assert len(curve) == 2
    assert all(np.isfinite(point["loss"]) and point["language"] > 0 for point in curve)
    moved = {n for n, value in model.named_parameters() if not torch.equal(value, before[n])}
    trained = {n for n, value in model.named_parameters() if value.requires_grad}
    assert moved <= trained
    assert {"queries", "vlm.lm_head.weight", *parts(model, "vlm")} & moved
    decoder = {id(p) for p in vlms.decoder(model.vlm).parameters()}
    assert all(n in moved for n, p in model.named_parameters() if id(p) in decoder and p.ndim > 1)
    assert not parts(model, "vlm.model.vision") & moved


def parts(model, prefix):
    return {name for name, _ in model.named_parameters() if name.startswith(prefix)}


def batches(model):
    """Two frames with a text, as a function of the step."""
    processor, chunk = model.processor, model.config.shape.chunk
    robot = samples.RobotSamples(
        encoded=encode(model, pictures(2)).detach(),
        actions=torch.zeros(2, chunk, 7),
        state=torch.zeros(2, 7),
        prompts=[processor.robot_prompt(c) for c in COMMANDS],
        answers=[processor.reasoning("move: down")] * 2,
        labelled=True,
    )
    return samples.Mixer(processor, 2, 0.0, 0, robot)


@pytest.mark.parametrize("reason", ["always", "never"])
def test_it_acts(model, reason, tmp_path):
    model.write(tmp_path, resolved={}, environment={})
    settings = params().evaluate.model_copy(update={"reason": reason})
    acting = ModelPolicy(tmp_path, settings, seed=0)
    zeros = np.zeros(7, np.float32)
    seen = Observation(pictures(1)[0], zeros, zeros[:6], np.zeros(1, np.float32), "put")
    acting.reset(0, "put", seed=0)
    decision = acting.act([0], [seen])[0]
    assert decision.actions.shape == (settings.execute, 7)
    assert np.isfinite(decision.actions).all()
    assert (decision.tokens > 1) == (reason == "always")


@torch.inference_mode()
def test_reading_on_from_a_cache_is_reading_at_once(model):
    """The action queries behind a cached prompt, as in acting, and in one pass, as in training."""
    processor, encoded = model.processor, encode(model, pictures(2))
    prompts = [processor.robot_prompt(c) for c in COMMANDS]
    prefix = generation.start(model.vlm, processor, encoded, prompts)
    act = torch.full((2,), processor.act_id)
    generation.append(model.vlm, prefix, act, torch.ones(2, dtype=torch.bool))
    queries = model.queries.expand(2, -1, -1)
    ones = torch.ones(queries.shape[:2], dtype=torch.long)
    piecewise = generation.extend(model.vlm, prefix, queries, ones)
    torch.testing.assert_close(piecewise, model(encoded, sequences(model))[1], atol=1e-5, rtol=1e-4)


def test_an_unknown_family_is_run_as_its_own_features_say(tmp_path):
    assert families.of(policy(tmp_path, "internvl").vlm.config) is families.ANY


EXPECTED = {  # published parameter counts in millions, image tokens, decoder and vision width
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": (507, 64, 960, 960),
    "Qwen/Qwen2.5-VL-3B-Instruct": (3755, 256, 2048, 2048),
    "SigLIP-so400m with Qwen2.5-1.5B": (1960, 256, 1536, 1152),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_real_size_fits_the_policy(name):
    million, tokens, width, vision_width = EXPECTED[name]
    with torch.device("meta"):
        vlm = build(SIZES[name])
    count = sum(p.numel() for p in vlm.parameters()) / 1e6
    assert count == pytest.approx(million, rel=0.02)
    assert (vlms.width(vlm), vlms.vision_width(vlm)) == (width, vision_width)
