import pytest
import torch
from tiny_policy import pictures, policy

from dualvla.models import generation
from dualvla.models.inference import encode


@torch.inference_mode()
def written(model, draft=None, limit=24):
    encoded = encode(model, pictures(1))
    processor, vlm = model.processor, model.vlm
    prefix = generation.start(vlm, processor, encoded, [processor.robot_prompt("put carrot")])
    eos = processor.eos_id
    if draft is None:
        tokens = generation.greedy(vlm, prefix, eos, torch.tensor([True]), limit)[0]
    else:
        tokens = generation.redraft(vlm, prefix, eos, draft, limit)
    return tokens, prefix


def drafts(right):
    half = len(right) // 2
    return {
        "none": [],
        "the text itself": right,
        "its start": right[:half],
        "a token changed": [*right[:half], 3, *right[half + 1 :]],
        "a token missing": [*right[:half], *right[half + 1 :]],
        "too long": [*right, 1, 2, 3],
        "another": [9] * 40,
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", drafts([0] * 4))
def test_a_draft_does_not_change_the_text(name, seed):
    model = policy(seed)
    right, plain = written(model)
    tokens, drafted = written(model, drafts(right)[name])
    assert tokens == right
    assert drafted.cache.get_seq_length() == plain.cache.get_seq_length()
    assert torch.equal(drafted.mask, plain.mask)
    torch.testing.assert_close(drafted.logits, plain.logits, atol=1e-4, rtol=1e-4)


def test_a_good_draft_saves_passes(monkeypatch):
    model = policy()
    right, _ = written(model)
    passes = []
    extend = generation.extend
    monkeypatch.setattr(generation, "extend", lambda *a: passes.append(1) or extend(*a))
    written(model, [])
    without = len(passes)
    passes.clear()
    written(model, right)
    assert len(passes) < without / 3
