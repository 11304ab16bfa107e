"""The gate of pruning verdicts: complete, explained, within the retention asked for."""

import numpy as np
import pandas as pd
import pytest

from dualvla import config, quality

EPISODES, FRAMES = 4, 12  # of the data set in conftest


def verdicts() -> pd.DataFrame:
    """Consistent verdicts: first frames and frame 5 of every episode are kept."""
    frame = np.tile(np.arange(FRAMES), EPISODES)
    event = frame == 5
    return pd.DataFrame(
        {
            "dataset": "sim",
            "episode_index": np.repeat(np.arange(EPISODES), FRAMES),
            "frame_index": frame,
            "task": np.repeat(["carrot", "stack"], EPISODES // 2 * FRAMES),
            "scene_score": np.where(event, 0.5, 0.1).astype(np.float32),
            "scene": event,
            "action_score": np.where(event, 2.0, 0.0).astype(np.float32),
            "action": event,
            "keep": event | (frame == 0),
        }
    )


@pytest.fixture
def check(tmp_path, episodes, params):
    """Run the gate on a table of verdicts."""

    def run(table, params=params):
        out = tmp_path / "pruned"
        out.mkdir()
        table.to_parquet(out / "verdicts.parquet")
        quality.gate("pruned", out, params=params, annotated=episodes)

    return run


def test_clean_verdicts_pass(check):
    check(verdicts())


def test_a_frame_kept_without_an_event_is_named(check):
    table = verdicts()
    table.loc[3 * FRAMES + 7, "keep"] = True
    with pytest.raises(quality.QualityError, match=r"explained.*sim, episode 3, frame 7"):
        check(table)


def test_a_dropped_first_frame_is_named(check):
    table = verdicts()
    table.loc[2 * FRAMES, "keep"] = False
    with pytest.raises(quality.QualityError, match=r"first_kept.*sim, episode 2, frame 0"):
        check(table)


def test_two_verdicts_for_a_frame_are_refused(check):
    table = pd.concat([verdicts(), verdicts().iloc[[7]]])
    with pytest.raises(quality.QualityError, match=r"sim, episode 0, frame 7"):
        check(table)


def test_an_episode_without_verdicts_is_named(check):
    with pytest.raises(quality.QualityError, match=r"verdicts and frames.*sim, episode 3"):
        check(verdicts().query("episode_index < 3"))


def test_a_score_that_is_no_number_is_named(check):
    table = verdicts()
    table.loc[4, "scene_score"] = np.nan
    with pytest.raises(quality.QualityError, match=r"scene_score.*sim, episode 0, frame 4"):
        check(table)


@pytest.mark.parametrize("bounds", [(0.5, 0.9), (0.0, 0.1)])
def test_retention_out_of_range_is_refused(check, params, bounds):
    patch = {"prune": {"min_retention": bounds[0], "max_retention": bounds[1]}}
    with pytest.raises(quality.QualityError, match=r"retention: in .*but 8 of 48|retention"):
        check(verdicts(), config.parse(config.merge(params.model_dump(), patch)))


def test_a_missing_column_says_so(check):
    with pytest.raises(quality.QualityError, match=r"column action_score is missing"):
        check(verdicts().drop(columns=["action_score"]))


def test_a_task_that_kept_only_first_frames_is_a_warning(check, tmp_path):
    table = verdicts()
    stack = table["task"] == "stack"
    table.loc[stack & (table["frame_index"] == 5), "keep"] = False
    check(table)
    assert "kept nothing but first frames" in (tmp_path / "pruned/quality.html").read_text()
