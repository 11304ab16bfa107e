import json

import pytest
import torch
from tiny_policy import params, pictures, policy

from dualvla.errors import UserError
from dualvla.models import policy as policies
from dualvla.models import vlm as vlms
from dualvla.models.inference import encode


def latents(model, commands):
    processor = model.processor
    encoded = encode(model, pictures(1) * len(commands))
    prompts = [processor.robot_prompt(c) for c in commands]
    with torch.no_grad():
        return model(encoded, processor.pad(prompts, [[processor.act_id]] * len(commands)))[1]


def test_padding_changes_nothing():
    model = policy()
    alone = latents(model, ["put"])
    beside = latents(model, ["put", "put the carrot on the plate now"])
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-5)


def test_a_saved_policy_loads_bit_for_bit(tmp_path):
    model = policy()
    model.write(tmp_path, resolved={"seed": 0}, environment={"torch": "x"})
    again = policies.load(tmp_path)
    assert torch.equal(latents(model, ["put"]), latents(again, ["put"]))
    assert again.config == model.config
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pt"))


def test_the_frozen_tower_gets_no_gradient():
    model = policy()
    assert not any(p.requires_grad for p in vlms.tower(model.vlm).parameters())


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    model = policy()
    model.write(tmp_path, resolved={}, environment={})
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    data["shape"]["expert_width"] = 32
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="another shape"):
        policies.load(tmp_path)
    wider = params().model.model_copy(update={"queries": 3})
    with pytest.raises(UserError, match=r"model\.queries is 2 in the checkpoint, 3"):
        policies.require_shape(model, wider, tmp_path)


def test_truncated_weights_are_refused(tmp_path):
    policy().write(tmp_path, resolved={}, environment={})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged weights"):
        policies.load(tmp_path)


def test_another_architecture_runs_through_the_same_functions():
    """A CLIP tower and a Qwen2 decoder, as a real checkpoint would bring them."""
    from transformers import (
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        Qwen2Config,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        ),
        text_config=Qwen2Config(
            vocab_size=320,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
        ),
    )
    model = LlavaForConditionalGeneration(config).eval()
    encoded = vlms.encode(model, torch.zeros(2, 3, 32, 32))
    assert encoded.shape == (2, 4, 16)
    assert vlms.project(model, encoded).shape == (2, 4, vlms.width(model))
