import family_models
import pytest
import torch
from tiny_policy import policy

from dualvla.data.conversations import Conversation
from dualvla.models import vlm as vlms
from dualvla.training import loop, packing

ASKED = [
    Conversation("0", "a.png", "colour", "what colour is the carrot?", "orange"),
    Conversation("1", "b.png", "count", "how many?", "2"),
    Conversation("2", "a.png", "position", "where is the carrot?", "34 60"),
    Conversation("3", "a.png", "existence", "is there a spoon?", "no"),
]


def packed(model, size=2):
    torch.manual_seed(0)
    encoded = torch.randn(2, model.processor.image_tokens, vlms.vision_width(model.vlm))
    return packing.pack(model.processor, encoded, ["a.png", "b.png"], ASKED, size=size, seed=0)


def answers(model, embeddings, labels, mask, positions):
    hidden = vlms.read(model.vlm, embeddings, mask, positions, model.processor.picture)
    return vlms.answer_logits(model.vlm, hidden, labels)


@pytest.mark.parametrize("family", ["tiny", *family_models.FAMILIES])
@torch.no_grad()
def test_packed_questions_are_answered_as_separate_ones(family, tmp_path):
    model = policy() if family == "tiny" else family_models.policy(tmp_path, family)
    vlm, processor = model.vlm, model.processor
    packs = packed(model)
    batch = packs(0)
    embeddings = vlms.embed(vlm, batch.input_ids, vlms.project(vlm, batch.encoded))
    logits, tokens = answers(model, embeddings, batch.labels, batch.mask, batch.positions)
    about = [[ASKED[0], ASKED[2], ASKED[3]], [ASKED[1]]]  # a.png, b.png
    order = [q for i in loop.sample(packs.seed, 0, 2, 2) for q in about[i]]
    picture = {"a.png": 0, "b.png": 1}
    single = processor.pad(
        [processor.question_prompt(q.question) for q in order],
        [processor.answer(q.answer) for q in order],
    )
    alone = packs.encoded[[picture[q.image] for q in order]]
    mask = single.attention_mask
    embeddings = vlms.embed(vlm, single.input_ids, vlms.project(vlm, alone))
    expected, wanted = answers(model, embeddings, single.labels, mask, vlms.positions(mask))
    assert torch.equal(tokens, wanted)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
