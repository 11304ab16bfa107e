import json

import pytest
import torch
from family_models import FAMILIES, TINY, build, checkpoint, tokenizer
from tiny_policy import params

from dualvla.errors import UserError
from dualvla.models import pretrained
from dualvla.models import vlm as vlms
from dualvla.models.processing import Processor
from dualvla.training import base


def rows(vlm):
    return vlm.get_input_embeddings().weight.detach()


def test_tokens_of_a_decision_start_as_the_mean_of_their_word(tmp_path):
    folder = checkpoint(tmp_path, "smolvlm")
    known = rows(vlms.load(folder))
    vlm, processor = pretrained.prepare(folder, 32)
    word = processor.tokenizer.encode(" think", add_special_tokens=False)
    expected = known[word].mean(0)
    assert torch.equal(rows(vlm)[processor.think_id], expected)
    assert torch.equal(rows(vlm)[: len(known)], known)
    head = vlm.lm_head.weight
    assert torch.equal(head[processor.think_id], head[word].mean(0))  # not tied to the embedding


def test_embeddings_grow_for_new_tokens_and_keep_spare_rows(tmp_path):
    grown, processor = pretrained.prepare(checkpoint(tmp_path, "smolvlm"), 32)
    assert len(rows(grown)) == len(processor.tokenizer) == 322
    spare, processor = pretrained.prepare(checkpoint(tmp_path, "qwen2_5_vl"), 32)
    assert len(rows(spare)) == 512 > processor.act_id


def test_preparing_twice_gives_the_same_model(tmp_path):
    folder = checkpoint(tmp_path, "smolvlm")
    one, two = pretrained.prepare(folder, 32)[0], pretrained.prepare(folder, 32)[0]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prepared_model_is_stored_and_found_again(family, tmp_path):
    """As the base stage stores it and the specialist stage opens it."""
    vlm, processor = pretrained.prepare(checkpoint(tmp_path, family), 32)
    out = tmp_path / "base"
    vlm.save_pretrained(str(out))
    processor.save(out)
    again, read = vlms.load(out), Processor.load(out)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in vlm.state_dict().items())
    assert read.robot_prompt("put") == processor.robot_prompt("put")
    assert again.config.image_token_id == read.image_id
    assert read.tokenizer.decode([read.think_id], skip_special_tokens=True) == ""


def test_a_placeholder_number_that_is_a_common_word_is_not_believed(tmp_path):
    torch.manual_seed(0)
    config = {**TINY["eagle"], "image_token_index": 100}
    build(config).save_pretrained(str(tmp_path))
    tokenizer("eagle").save_pretrained(str(tmp_path))
    vlm, processor = pretrained.prepare(tmp_path, 32)
    assert processor.image_token == "<image>"
    assert vlm.config.image_token_id == processor.image_id >= 320


def test_pictures_are_normalised_as_the_checkpoint_says(tmp_path):
    folder = checkpoint(tmp_path, "smolvlm")
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    processor = pretrained.prepare(folder, 128)[1]
    assert (processor.mean, processor.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert processor.resample == "bicubic"
    assert processor.image_size == 32  # of its tower, not of the simulation


def test_without_its_own_numbers_a_checkpoint_has_its_familys(tmp_path):
    processor = pretrained.prepare(checkpoint(tmp_path, "qwen2_5_vl"), 128)[1]
    assert processor.mean == pytest.approx((0.481, 0.458, 0.408), abs=1e-3)
    assert processor.image_size == 448
    assert processor.resample == "bicubic"


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path):
    build(TINY["smolvlm"]).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="tokenizer"):
        pretrained.prepare(tmp_path, 32)


def test_a_tower_for_oblong_pictures_is_refused(tmp_path):
    vision = {**TINY["internvl"]["vision_config"], "image_size": [32, 64]}
    build({**TINY["internvl"], "vision_config": vision}).save_pretrained(str(tmp_path))
    tokenizer("internvl").save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match=r"\[32, 64\]"):
        pretrained.prepare(tmp_path, 32)


def test_an_architecture_that_wants_more_than_pixels_is_refused(tmp_path):
    config = {**TINY["qwen2_5_vl"], "model_type": "qwen2_vl"}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 8}
    build({**config, "vision_config": vision}).save_pretrained(str(tmp_path))
    tokenizer("qwen2_5_vl").save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="models of type qwen2_vl"):
        pretrained.prepare(tmp_path, 32)


def test_a_named_checkpoint_is_the_base_model(tmp_path):
    named = {"vlm": str(checkpoint(tmp_path, "eagle"))}
    settings = params()
    shape = settings.model.model_copy(update=named)
    vlm, processor = base.build(settings.model_copy(update={"model": shape}), texts=[])
    assert vlm.config.model_type == "llava"
    assert processor.image_tokens == 16
