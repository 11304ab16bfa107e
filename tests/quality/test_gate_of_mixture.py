"""The gate of the training mixture: sources exist, nothing leaks, shares are as asked."""

import numpy as np
import pandas as pd
import pytest

from dualvla import config, quality

EPISODES, FRAMES = 4, 12  # of the data set in conftest


def mixture() -> pd.DataFrame:
    """A mixture with episode 3 held out, 20 % rewrites, 20 % contexts, 25 % multimodal samples."""
    episode, frame = np.repeat(np.arange(EPISODES), FRAMES), np.tile(np.arange(FRAMES), EPISODES)
    kind = np.array(["rewrite", "context", "plain", "plain", "plain"])[np.arange(len(frame)) % 5]
    robot = pd.DataFrame(
        {
            "domain": "robot",
            "dataset": "sim",
            "episode_index": episode,
            "frame_index": frame,
            "conversation": None,
            "image": None,
            "kind": kind,
            "command": "put carrot on plate",
            "reasoning": [None if n % 3 else "move: down ; carrot at 3 4" for n in frame],
            "split": np.where(episode == 3, "heldout", "train"),
        }
    )
    talks = pd.DataFrame(
        {
            "domain": "multimodal",
            "dataset": "scenes",
            "episode_index": -1,
            "frame_index": -1,
            "conversation": [f"q{n}" for n in range(16)],
            "image": [f"scene-{n // 2}.jpg" for n in range(16)],
            "kind": "colour",
            "command": "what colour is the carrot?",
            "reasoning": "orange",
            "split": ["train"] * 12 + ["heldout"] * 4,
        }
    )
    return pd.concat([robot, talks], ignore_index=True)


@pytest.fixture
def check(tmp_path, annotated, params):
    """Run the gate on a mixture."""

    def run(table, params=params):
        out = tmp_path / "mixture"
        out.mkdir()
        table.to_parquet(out / "mixture.parquet")
        quality.gate("mixture", out, params=params, annotated=annotated)

    return run


def test_a_clean_mixture_passes(check):
    check(mixture())


def test_a_heldout_episode_in_training_is_named(check):
    table = mixture()
    table.loc[3 * FRAMES + 7, "split"] = "train"
    with pytest.raises(quality.QualityError, match=r"sim, episode 3: .*held-out episode"):
        check(table)


def test_a_heldout_picture_in_training_is_named(check):
    table = mixture()
    table.loc[len(table) - 1, "split"] = "train"
    with pytest.raises(quality.QualityError, match=r"scenes, scene-7\.jpg: .*held-out picture"):
        check(table)


def test_a_frame_that_does_not_exist_is_named(check):
    table = mixture()
    table.loc[5, "frame_index"] = 500
    with pytest.raises(quality.QualityError, match=r"frame_exists.*sim, episode 0, frame 500"):
        check(table)


def test_the_same_sample_twice_is_refused(check):
    with pytest.raises(quality.QualityError, match=r"sim, episode 0, frame 7"):
        check(pd.concat([mixture(), mixture().iloc[[7]]]))


def test_a_robot_sample_without_a_command_is_named(check):
    table = mixture()
    table.loc[7, "command"] = " "
    with pytest.raises(quality.QualityError, match=r"has_command.*sim, episode 0, frame 7"):
        check(table)


def test_a_missing_share_is_refused(check, params):
    patch = {"mix": {"rewrite_share": 0.8, "context_share": 0.1}}
    with pytest.raises(quality.QualityError, match=r"excess.*rewrite"):
        check(mixture(), config.parse(config.merge(params.model_dump(), patch)))


def test_a_mixture_without_multimodal_data_is_refused(check):
    with pytest.raises(quality.QualityError, match=r"samples: at least 1, but multimodal"):
        check(mixture().query("domain == 'robot'"))


def test_a_missing_column_says_so(check):
    with pytest.raises(quality.QualityError, match=r"column split is missing"):
        check(mixture().drop(columns=["split"]))
