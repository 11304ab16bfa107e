import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import params, pictures, policy

from dualvla.errors import UserError
from dualvla.evaluation import diagnosis
from dualvla.models import inference

GRASP = "subtask: grasp the carrot ; move: down ; carrot at 34 60"
PLACE = "subtask: place the carrot on the plate ; move: down"


def mixture(count=8):
    """Robot rows of two held-out episodes and one of training."""
    rows = [
        {"split": "train" if frame % 3 == 2 else "heldout", "episode_index": frame % 3}
        | {"frame_index": frame // 3, "kind": "plain" if frame % 2 else "rewrite"}
        | {"command": "put carrot on plate", "reasoning": f"subtask: grasp the carrot {frame}"}
        for frame in range(3 * count)
    ]
    return pd.DataFrame(rows)


def frames(model, chosen):
    shape, count = params().model, len(chosen)
    draw = torch.Generator().manual_seed(0)
    shown = inference.encode(model, pictures(count)).detach()
    return diagnosis.Frames(
        encoded=shown,
        state=torch.zeros(count, 7),
        actions=torch.zeros(count, shape.chunk, 7),
        noise=torch.randn(count, shape.chunk, 7, generator=draw),
        prompts=[model.processor.robot_prompt(c) for c in chosen["command"]],
    )


def test_only_held_out_frames_are_chosen_and_always_the_same():
    chosen = diagnosis.choose(mixture(), 10, seed=3)
    assert len(chosen) == 10
    assert set(chosen["split"]) == {"heldout"}
    pd.testing.assert_frame_equal(chosen, diagnosis.choose(mixture(), 10, seed=3))
    assert len(diagnosis.choose(mixture(), 99, seed=3)) == 16


def test_a_shuffled_text_is_that_of_another_chosen_frame():
    chosen = diagnosis.choose(mixture(), 10, seed=3)
    assert sorted(chosen["shuffled"]) == sorted(chosen["reasoning"])
    assert (chosen["shuffled"] != chosen["reasoning"]).all()


def test_too_little_held_out_data_is_refused():
    with pytest.raises(UserError, match="fewer than two held-out frames"):
        diagnosis.choose(mixture().assign(split="train"), 10, seed=0)


def test_the_same_text_gives_the_same_error_and_another_one_another():
    model, chosen = policy(), diagnosis.choose(mixture(), 6, seed=0)
    shown = frames(model, chosen)
    one = diagnosis.errors(model, shown, [GRASP] * 6, 2)
    assert np.array_equal(one, diagnosis.errors(model, shown, [GRASP] * 6, 2))
    assert (one != diagnosis.errors(model, shown, [None] * 6, 2)).all()


def test_the_error_is_that_of_the_executed_actions_alone():
    model, chosen = policy(), diagnosis.choose(mixture(), 3, seed=0)
    shown = frames(model, chosen)
    before = diagnosis.errors(model, shown, [None] * 3, 2)
    shown.actions[:, 2:] = 9.0
    assert np.array_equal(before, diagnosis.errors(model, shown, [None] * 3, 2))
    assert (diagnosis.errors(model, shown, [None] * 3, 3) > before).all()


def test_a_model_that_reasons_is_asked_with_every_text():
    model, chosen = policy(), diagnosis.choose(mixture(), 6, seed=0)
    found = diagnosis.table(model, frames(model, chosen), chosen.assign(kept=True), execute=2)
    made = diagnosis.summary(found, seed=0)
    assert all(made["errors"]["all"][text]["n"] == 6 for text in diagnosis.TEXTS)
    assert made["subtask"]["n"] == 6
    assert made["subtask"]["k"] == int(found["right"].sum())
    assert {made["thinks"][k]["n"] for k in ("plain", "free_form")} == {
        int((chosen["kind"] == "plain").sum()),
        int((chosen["kind"] != "plain").sum()),
    }


def test_a_model_without_text_has_only_the_error_without_text():
    model, chosen = policy(reasons=False), diagnosis.choose(mixture(), 6, seed=0)
    found = diagnosis.table(model, frames(model, chosen), chosen.assign(kept=True), execute=2)
    made = diagnosis.summary(found, seed=0)
    assert made["errors"]["all"]["none"]["n"] == 6
    assert {made["errors"]["all"][t] for t in ("true", "generated", "shuffled")} == {None}
    assert (made["subtask"], made["thinks"], made["kept"]) == (None, {}, {})


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (GRASP, True),
        ("subtask: grasp the carrot", True),
        ("subtask: grasp the spoon ; move: down", False),
        (PLACE, False),
        ("", False),
        ("carrot at 34 60", False),
    ],
)
def test_a_subtask_is_the_same_whatever_else_is_said(given, same):
    assert diagnosis.same_subtask(given, GRASP) is same


@given(st.lists(st.floats(0, 2), min_size=2, max_size=12), st.integers(1, 5))
def test_the_interval_holds_the_mean_and_ignores_repetition(means, repeats):
    values = np.repeat(means, repeats)
    groups = np.repeat(np.arange(len(means)), repeats)
    low, high = diagnosis.bootstrap(values, groups, seed=0)
    assert min(means) - 1e-9 <= low <= high <= max(means) + 1e-9
    # Frames that say the same again narrow nothing: what counts is the number of episodes.
    once = diagnosis.bootstrap(np.array(means), np.arange(len(means)), seed=0)
    assert np.allclose((low, high), once)


def test_one_episode_has_no_interval():
    assert diagnosis.bootstrap(np.ones(5), np.zeros(5, int), seed=0) is None
