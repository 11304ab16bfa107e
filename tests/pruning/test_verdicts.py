import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dualvla import config
from dualvla.pruning import prune, scenes

masks = st.integers(0, 40).flatmap(
    lambda n: st.tuples(arrays.arrays(bool, n), arrays.arrays(bool, n))
)
RULES = ("scene_only", "kinematic_only", "random")


def table(seed=0, episodes=12, length=25):
    rng = np.random.default_rng(seed)
    parts = []
    for index in range(episodes):
        scene, action = rng.random(length) < 0.2, rng.random(length) < 0.3
        rows = {
            "dataset": "a" if index % 3 else "b",
            "episode_index": index,
            "frame_index": np.arange(length),
            "task": ("carrot", "stack")[index % 2],
            "scene_score": np.where(scene, 0.5, 0.1) + 0.1 * rng.random(length),
            "scene": scene,
            "action_score": np.where(action, 1.5, 0.1),
            "action": action,
            "keep": prune.both(scene, action, 2),
        }
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


@given(masks)
def test_without_tolerance_the_verdict_is_the_and_plus_the_first_frame(layers):
    scene, action = layers
    expected = scene & action
    expected[:1] = True
    assert (prune.both(scene, action, 0) == expected).all()


@given(masks, st.integers(0, 6))
def test_more_tolerance_only_adds_frames_that_the_scene_layer_marks(layers, tolerance):
    scene, action = layers
    less, more = (prune.both(scene, action, k) for k in (tolerance, tolerance + 1))
    assert (more | ~less).all()
    assert (more <= (scene | (np.arange(len(more)) == 0))).all()


def test_layers_two_frames_apart_meet_within_a_tolerance_of_two():
    scene, action = np.zeros(9, bool), np.zeros(9, bool)
    scene[3] = action[5] = True
    assert np.flatnonzero(prune.both(scene, action, 1)).tolist() == [0]
    assert np.flatnonzero(prune.both(scene, action, 2)).tolist() == [0, 3]


@pytest.mark.parametrize("rule", RULES)
def test_controls_have_the_same_retention_in_every_task_and_keep_first_frames(rule):
    rows = table()
    mask = prune.keep_mask(rows, rule, seed=3)
    by = [rows["dataset"], rows["task"]]
    counts = pd.Series(mask).groupby(by).sum()
    assert counts.equals(rows["keep"].groupby(by).sum().rename(None))
    assert mask[rows["frame_index"] == 0].all()


@pytest.mark.parametrize("rule", [*RULES, "both", "none"])
def test_a_mask_does_not_depend_on_the_order_of_rows(rule):
    rows = table()
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = prune.keep_mask(rows.iloc[order], rule, seed=3)
    assert (shuffled == prune.keep_mask(rows, rule, seed=3)[order]).all()


def test_random_is_fixed_by_its_seed_and_none_keeps_all():
    rows = table()
    first, again, other = (prune.keep_mask(rows, "random", seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert prune.keep_mask(rows, "none", 0).all()


def test_a_layer_s_control_prefers_its_own_events():
    rows = table()
    mask = prune.keep_mask(rows, "scene_only", 0) & (rows["frame_index"] != 0)
    dropped = ~mask & (rows["frame_index"] != 0)
    for _, group in rows.groupby(["dataset", "task"]):
        kept_scores = group["scene_score"][mask[group.index]]
        assert kept_scores.min() >= group["scene_score"][dropped[group.index]].max()


def test_retention_counts_match_the_table():
    rows = table()
    found = prune.retention(rows)
    assert found["all"]["frames"] == len(rows)
    assert found["all"]["counts"]["keep"] == rows["keep"].sum()
    assert found["all"]["shares"]["keep"] == pytest.approx(rows["keep"].mean())
    assert sum(part["counts"]["scene"] for part in found["task"].values()) == rows["scene"].sum()
    assert set(found["dataset"]) == {"a", "b"}


def test_verdicts_of_an_episode_are_keyed_and_keep_its_first_frame():
    params = config.load("params.yaml").prune
    rng = np.random.default_rng(0)
    states, layer = rng.normal(size=(20, 7)), scenes.change_points(rng.normal(size=(20, 4)), params)
    arrays = {"states": states, "scene_score": layer.scores, "scene": layer.events}
    rows = prune.verdicts("d", 7, "carrot", **arrays, params=params)
    assert list(rows.columns) == prune.COLUMNS
    assert rows["frame_index"].tolist() == list(range(20))
    assert (rows["episode_index"] == 7).all()
    assert rows["keep"][0]
    assert (rows["action"] == (rows["action_score"] > 1)).all()
