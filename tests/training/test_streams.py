import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import processor

from dualvla.training import calibration, streams

PROCESSOR = processor()
PROMPT = PROCESSOR.robot_prompt("put carrot on plate")
FRAMES = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30)


def made(frames, seed):
    """Plan of frames (key, free, has text), ten an episode."""
    key, free, told = (np.array(column) for column in zip(*frames, strict=True))
    texts = [f"carrot at {i}" if has else None for i, has in enumerate(told)]
    episodes = [i // 10 for i in range(len(frames))]
    prompts = [PROMPT] * len(frames)
    return texts, streams.plan(PROCESSOR, prompts, texts, episodes, key=key, free=free, seed=seed)


@given(FRAMES, st.integers(0, 9))
def test_words_are_of_the_same_episode_and_never_of_a_later_frame(frames, seed):
    texts, plan = made(frames, seed)
    for i, words in enumerate(plan.words):
        source = int(plan.seen[i])
        assert source <= i
        assert source // 10 == i // 10
        if words:
            assert words == [*PROMPT, *PROCESSOR.reasoning(texts[source])]


@given(FRAMES, st.integers(0, 9))
def test_a_row_learns_a_text_or_a_decision(frames, seed):
    texts, plan = made(frames, seed)
    for i, learnt in enumerate(plan.learnt):
        assert (learnt > 0) != (plan.decision[i] != streams.NOTHING)
        row = streams.row(plan, i, PROMPT, PROCESSOR.act_id)
        predicted = [label for label in row.labels if label != streams.NOTHING]
        wanted = PROCESSOR.answer(texts[i]) if learnt else [plan.decision[i]]
        assert predicted == wanted
        assert row.ids[-1] == PROCESSOR.act_id


@given(FRAMES, st.integers(0, 9))
def test_to_think_is_wanted_at_key_frames_and_where_a_free_command_has_no_text(frames, seed):
    texts, plan = made(frames, seed)
    for i, (key, free, _) in enumerate(frames):
        if plan.decision[i] == PROCESSOR.think_id:
            assert texts[i]
            assert key or (free and not plan.words[i])
        elif plan.decision[i] == PROCESSOR.act_id:
            assert not texts[i] or not key


@given(st.lists(st.tuples(st.integers(-99, 99), st.booleans()), unique_by=lambda x: x[0]))
def test_calibrated_odds_are_exceeded_as_often_as_wanted(rows):
    odds = torch.tensor([float(value) for value, _ in rows])
    wanted = torch.tensor([wants for _, wants in rows], dtype=torch.bool)
    assert int((odds > calibration.threshold(odds, wanted)).sum()) == int(wanted.sum())
