import dataclasses

import numpy as np
import pytest
import torch
from tiny_policy import params, pictures, policy

from dualvla.evaluation import acting
from dualvla.interface import Observation
from dualvla.models import experts, generation, inference, streams
from dualvla.models import policy as policies

COMMAND = "put carrot on plate"
TEXT = "subtask: grasp the carrot ; move: down ; carrot at 34 60"


def decoupled(**changes):
    """A policy of seed 0 that speaks with the weights of seed 1."""
    model = policy(0)
    experts.decouple(model.vlm, policy(1).vlm)
    model.config = dataclasses.replace(model.config, streams=True, **changes)
    return model


@pytest.fixture(scope="module")
def encoded():
    return inference.encode(policy(0), pictures(2))


def latents(model, encoded, rows):
    sequences = streams.pad(model.processor, rows)
    with torch.no_grad():
        return model(encoded, sequences, encoded)[1]


def test_without_words_it_acts_as_the_one_that_acts(encoded):
    model, specialist = decoupled(), policy(0)
    prompt = model.processor.robot_prompt(COMMAND)
    own = latents(model, encoded, [streams.action(model.processor, prompt, None)] * 2)
    alone = specialist.processor.pad([prompt] * 2, [specialist.processor.reasoning(None)] * 2)
    with torch.no_grad():
        torch.testing.assert_close(own, specialist(encoded, alone)[1])


def test_questions_are_answered_by_the_one_that_speaks(encoded):
    model, speaker = decoupled(), policy(1)
    prompts = [model.processor.question_prompt("what colour is the carrot?")] * 2
    seen = inference.encode(speaker, pictures(2))
    with torch.no_grad():
        own = generation.start(model.vlm, model.processor, seen, prompts).logits
        torch.testing.assert_close(
            own, generation.start(speaker.vlm, speaker.processor, seen, prompts).logits
        )


def test_actions_read_the_words(encoded):
    model = decoupled()
    prompt = model.processor.robot_prompt(COMMAND)
    told, untold = (
        latents(model, encoded, [streams.action(model.processor, prompt, text)] * 2)
        for text in (TEXT, None)
    )
    assert not torch.allclose(told, untold)


def test_a_row_does_not_depend_on_its_batch(encoded):
    model = decoupled()
    prompt, question = model.processor.robot_prompt(COMMAND), model.processor.answer("orange")
    rows = [
        streams.action(model.processor, prompt, TEXT),
        streams.question(model.processor.question_prompt("what colour is the carrot?"), question),
    ]
    together = latents(model, encoded, rows)
    for i, row in enumerate(rows):
        torch.testing.assert_close(together[i : i + 1], latents(model, encoded[i : i + 1], [row]))


def test_a_written_policy_is_the_same_one(tmp_path, encoded):
    model = decoupled(offsets=(-1.0, 2.0), commands=(COMMAND,))
    model.write(tmp_path, resolved={}, environment={})
    loaded = policies.load(tmp_path)
    assert loaded.config == model.config
    row = [streams.action(model.processor, model.processor.robot_prompt(COMMAND), TEXT)] * 2
    assert torch.equal(latents(model, encoded, row), latents(loaded, encoded, row))


def deciding(folder, reason, **changes):
    decoupled(**changes).write(folder, resolved={}, environment={})
    settings = params().evaluate.model_copy(update={"reason": reason})
    return acting.ModelPolicy(folder, settings, seed=0)


def seen(picture=0, instruction=COMMAND):
    zeros = np.zeros(7, np.float32)
    image = pictures(3)[picture]
    return Observation(image, zeros, zeros[:6], np.zeros(1, np.float32), instruction)


NEVER, ALWAYS = 1e9, -1e9


def test_a_text_stays_in_force_until_it_is_no_longer_believed(tmp_path):
    model = deciding(tmp_path, "auto", offsets=(ALWAYS, NEVER))
    model.reset(0, COMMAND, seed=0)
    decisions = [model.act([0], [seen(i)])[0] for i in range(3)]
    assert [d.tokens > 1 for d in decisions] == [True, False, False]
    assert len({d.text for d in decisions}) == 1


def test_a_text_in_force_is_written_anew_where_the_wish_arises_not_while_it_lasts(
    tmp_path, monkeypatch
):
    wishes = iter([True, False, True, True, False, False, True])
    monkeypatch.setattr(inference, "prefers_text", lambda *_, **__: next(wishes))
    model = deciding(tmp_path, "auto")
    model.reset(0, COMMAND, seed=0)
    # The first decision is not asked; a wish that has lasted since then is none.
    wrote = [model.act([0], [seen(i % 3)])[0].tokens > 1 for i in range(8)]
    assert wrote == [True, False, False, True, False, False, False, True]


def test_a_plain_command_keeps_no_text(tmp_path):
    model = deciding(tmp_path, "auto", offsets=(ALWAYS, NEVER), commands=(COMMAND,))
    model.reset(0, COMMAND, seed=0)
    assert all(model.act([0], [seen(i)])[0].tokens > 1 for i in range(3))


def test_a_text_in_force_is_read_as_if_it_had_just_been_written(tmp_path, encoded):
    model = deciding(tmp_path, "auto", offsets=(ALWAYS, NEVER))
    model.reset(0, COMMAND, seed=0)
    for i in range(3):
        model.act([0], [seen(i)])
    episode = model._episodes[0]
    processor, shown = model.model.processor, inference.encode(model.model, pictures(3))
    prompt = processor.robot_prompt(COMMAND)
    words = [*prompt, processor.think_id, *episode.written, processor.eos_id]
    row = streams.Row([*words, *prompt, processor.act_id], [0] * 99, len(words))
    row = dataclasses.replace(row, labels=[streams.NOTHING] * len(row.ids))
    with torch.no_grad():
        whole = model.model(shown[2:], streams.pad(processor, [row]), shown[:1])[1]
        # Once more from the cache: what the actions read has left no trace in it.
        assert episode.words is not None
        _, _, cached = model._in_words_and_actions(episode, shown[2:])
    torch.testing.assert_close(cached, whole, rtol=1e-4, atol=1e-4)
