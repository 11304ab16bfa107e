import numpy as np
import pytest
import torch
from tiny_policy import params, pictures, policy

from dualvla.errors import UserError
from dualvla.evaluation.acting import ModelPolicy
from dualvla.interface import Observation
from dualvla.models import inference

SHOWN = pictures(1)[0]


def acting(folder, reason, *, reasons=True):
    policy(reasons=reasons).write(folder, resolved={}, environment={})
    settings = params().evaluate.model_copy(update={"reason": reason, "reason_every": 2})
    return ModelPolicy(folder, settings, seed=0)


def seen(instruction="put"):
    zeros = np.zeros(7, np.float32)
    return Observation(SHOWN, zeros, zeros[:6], np.zeros(1, np.float32), instruction)


def tokens(model, decisions=4):
    model.reset(0, "put", seed=0)
    return [model.act([0], [seen()])[0].tokens for _ in range(decisions)]


def test_auto_thinks_at_the_start_of_an_episode(tmp_path):
    model = acting(tmp_path, "auto")
    assert tokens(model)[0] > 1
    assert tokens(model)[0] > 1  # and of the next one


def test_every_n_thinks_every_n(tmp_path):
    assert [n > 1 for n in tokens(acting(tmp_path, "every_n"))] == [True, False, True, False]


@pytest.mark.parametrize(("reason", "reasons"), [("never", True), ("auto", False)])
def test_without_reasoning_a_decision_is_one_token(tmp_path, reason, reasons):
    assert tokens(acting(tmp_path, reason, reasons=reasons)) == [1, 1, 1, 1]


def test_the_same_episode_gets_the_same_actions_beside_any_other(tmp_path):
    model = acting(tmp_path, "always")
    model.reset(0, "put", seed=3)
    alone = model.act([0], [seen()])[0]
    model.reset(0, "put", seed=3)
    model.reset(1, "put carrot on plate", seed=4)
    beside = model.act([1, 0], [seen("put carrot on plate"), seen()])[1]
    assert np.array_equal(alone.actions, beside.actions)
    assert alone.text == beside.text


@pytest.mark.parametrize("reason", ["never", "always"])
def test_actions_read_what_they_read_in_training(tmp_path, reason):
    model = acting(tmp_path, reason)
    model.reset(0, "put", seed=0)
    encoded = inference.encode(model.model, [SHOWN])
    episode, processor = model._episodes[0], model.model.processor
    with torch.inference_mode():
        _, written, latents = model._in_one_stream([episode], encoded)
        words = [processor.think_id, *written[0], processor.eos_id]
        answer = words if reason == "always" else [processor.act_id]
        trained = processor.pad([episode.prompt], [answer])
        whole = model.model(encoded, trained)[1]
    torch.testing.assert_close(latents, whole, rtol=1e-4, atol=1e-4)


def test_an_instruction_that_changed_without_a_reset_is_refused(tmp_path):
    model = acting(tmp_path, "never")
    model.reset(0, "put", seed=0)
    with pytest.raises(UserError, match="without a reset"):
        model.act([0], [seen("stack")])
