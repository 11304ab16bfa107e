"""Every family through the same few functions, beside what the model itself computes."""

import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from family_models import COMMANDS, FAMILIES, SIZES, batches, build, policy, tokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_policy import params, pictures, statistics

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.evaluation.acting import ModelPolicy
from dualvla.interface import Observation
from dualvla.models import families, generation
from dualvla.models import policy as policies
from dualvla.models import vlm as vlms
from dualvla.models.features import encode_images
from dualvla.models.inference import encode
from dualvla.models.policy import PolicyConfig, VlaPolicy
from dualvla.models.processing import Processor, Sequences
from dualvla.training import loop
from dualvla.training import policies as training


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
    tower = {id(p) for p in vlms.tower(model.vlm).parameters()}
    frozen = {n for n, p in model.named_parameters() if id(p) in tower}
    assert frozen
    assert not frozen & moved
    assert {n for n, p in model.named_parameters() if p.ndim > 1} - frozen <= moved


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


@torch.inference_mode()
def test_a_draft_does_not_change_the_text(model):
    """The cache is cut back where a draft was wrong, and positions go on from there."""
    processor, encoded = model.processor, encode(model, pictures(1))
    eos, prompt = processor.eos_id, [processor.robot_prompt("put")]
    plain = generation.start(model.vlm, processor, encoded, prompt)
    text = generation.greedy(model.vlm, plain, eos, torch.tensor([True]), limit=12)[0]
    draft = [*text[:4], text[4] ^ 1, *text[5:]]
    drafted = generation.start(model.vlm, processor, encoded, prompt)
    assert generation.redraft(model.vlm, drafted, eos, draft, limit=12) == text
    torch.testing.assert_close(drafted.logits, plain.logits, atol=1e-4, rtol=1e-4)


def test_of_an_unknown_family_all_but_the_decoder_is_frozen(tmp_path):
    vlm = policy(tmp_path, "internvl").vlm
    assert families.of(vlm.config) is families.ANY
    trained = {name for name, p in vlm.named_parameters() if p.requires_grad}
    decoder = {f"model.language_model.{name}" for name, _ in vlms.decoder(vlm).named_parameters()}
    assert trained == decoder  # and with it the head, which is tied to it


def test_weights_are_kept_as_they_are_whatever_the_config_calls_them(model, tmp_path):
    """Published configs name bfloat16, in one place or in several."""
    model.write(tmp_path, resolved={}, environment={})
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    for part in (data["vlm"], data["vlm"]["text_config"], data["vlm"]["vision_config"]):
        part["dtype"] = "bfloat16"
    path.write_text(json.dumps(data))
    assert torch.equal(latents(model, COMMANDS), latents(policies.load(tmp_path), COMMANDS))


def test_a_head_of_its_own_must_be_there(tmp_path):
    policy(tmp_path, "smolvlm").write(tmp_path, resolved={}, environment={})
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights["vlm.lm_head.weight"]
    save_file(weights, path)
    with pytest.raises(UserError, match=r"lm_head\.weight is missing"):
        policies.load(tmp_path)


def test_cached_vision_is_not_that_of_another_connector(tmp_path):
    model = policy(tmp_path, "smolvlm")
    shown = [png(p) for p in pictures(2)]

    def cached():
        return encode_images(model.vlm, model.processor, shown, cache=tmp_path / "cache")

    first = cached()
    assert torch.equal(first, cached())
    with torch.no_grad():
        model.vlm.model.connector.modality_projection.proj.weight.mul_(2)
    torch.testing.assert_close(cached(), 2 * first)


def png(picture):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


PROMPTS = {
    "smolvlm": "<|im_start|>User:<fake_token_around_image><global-img>"
    + "<image>" * 4
    + "<fake_token_around_image>robot: put<end_of_utterance>\nAssistant:",
    "qwen2_5_vl": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>"
    + "<|image_pad|>" * 16
    + "<|vision_end|>robot: put<|im_end|>\n<|im_start|>assistant\n",
    "eagle": "<|im_start|>user\n"
    + "<image>" * 16
    + "robot: put<|im_end|>\n<|im_start|>assistant\n",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_what_the_family_was_trained_on(family, tmp_path):
    processor = policy(tmp_path, family).processor
    ids = processor.robot_prompt("put")
    assert processor.tokenizer.decode(ids) == PROMPTS[family]
    places = [i for i, token in enumerate(ids) if token == processor.image_id]
    assert places == list(processor.picture)
    asked = processor.question_prompt("<image> what?")
    assert asked.count(processor.image_id) == processor.image_tokens


@dataclass(frozen=True)
class Size:
    """What is published of a model, or follows from its config."""

    million: float  # parameters; of the Eagle class, the sum of its parts
    tokens: int  # of a picture
    width: int
    vision_width: int
    words: str  # family of the tokenizer


EXPECTED = {
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": Size(507, 64, 960, 960, "smolvlm"),
    "Qwen/Qwen2.5-VL-3B-Instruct": Size(3755, 256, 2048, 2048, "qwen2_5_vl"),
    "SigLIP-so400m with Qwen2.5-1.5B": Size(1544 + 412 + 4, 256, 1536, 1152, "eagle"),
}


def seen(vlm):
    """Shape of a picture's tokens on meta, without what asks a tensor for its numbers."""
    vision = vlm.config.vision_config
    with torch.device("meta"):
        if vlm.config.model_type == "qwen2_5_vl":
            flat = families.patches(torch.zeros(1, 3, 448, 448), 14, 2, 2)
            return vlm.model.visual.merger(vlm.model.visual.patch_embed(flat))[None].shape
        pixels = torch.zeros(1, 3, vision.image_size, vision.image_size)
        if vlm.config.model_type == "smolvlm":
            patches = (vision.image_size // vision.patch_size) ** 2
            return vlm.model.connector(torch.zeros(1, patches, vision.hidden_size)).shape
        return vlms.encode(vlm, pixels).shape


@pytest.mark.parametrize("name", SIZES)
def test_a_real_size_fits_the_policy(name):
    size = EXPECTED[name]
    with torch.device("meta"):
        vlm = build(SIZES[name])
    assert sum(p.numel() for p in vlm.parameters()) / 1e6 == pytest.approx(size.million, rel=0.01)
    assert (vlms.width(vlm), vlms.vision_width(vlm)) == (size.width, size.vision_width)
    assert seen(vlm) == (1, size.tokens, size.vision_width)
    words = tokenizer(size.words)
    words.add_tokens(["<image>", "<think>", "<act>"], special_tokens=True)
    processor = Processor(words, 448, size.tokens, prompt=families.of(vlm.config).prompt)
    vlm.config.image_token_id = processor.image_id
    shape = params().model.model_copy(update={"queries": 64})
    settings = PolicyConfig(shape, statistics(), conventions.WIDOWX_SIMULATION, True)
    with torch.device("meta"):
        model = VlaPolicy(vlm, processor, settings)
        encoded = torch.zeros(2, size.tokens, size.vision_width)
    batch = sequences(model)
    parts = (batch.input_ids, batch.attention_mask, batch.labels)
    hidden, queries = model(encoded, Sequences(*(part.to("meta") for part in parts)))
    assert hidden.shape == (*batch.input_ids.shape, size.width)
    assert queries.shape == (2, 64, size.width)
