"""The gate of demonstrations passes a clean data set and names the row of every planted fault."""

import math

import numpy as np
import pytest

from dualvla import config, conventions, quality
from dualvla.data import lerobot
from dualvla.files import read_json

FRAMES = 12  # of an episode, see conftest
AT = 3 * FRAMES + 7  # row of episode 3, frame 7


def put(value, entry=None, row=AT):
    """A change of one row, or of one entry of it."""

    def change(values):
        if entry is None:
            values[row] = value
        else:
            values[row] = [*values[row][:entry], value, *values[row][entry + 1 :]]
        return values

    return change


def test_clean_episodes_pass(episodes, params):
    quality.gate("demonstrations", episodes, params=params)
    report = read_json(episodes / "quality.json")
    assert report["success"]
    assert report["counts"] == {"missing": 0, "failed": 0, "warned": 0} | {
        "passed": len(report["expectations"])
    }
    assert "http" not in (episodes / "quality.html").read_text()


FAULTS = {
    "NaN": ("action", put(math.nan, 2), "action.z"),
    "infinity": ("action", put(math.inf, 2), "action.z"),
    "millimetres": ("action", put(20.0, 0), "action.x"),
    "degrees": ("action", put(45.0, 5), "action.yaw"),
    "gripper": ("action", put(2.0, 6), "action.gripper"),
    "opening": ("observation.state", put(-0.5, 6), "state.gripper"),
    "workspace": ("observation.state", put(3.0, 0), "state.x"),
    "controller": ("observation.controller", put(math.nan, 1), "controller.y"),
    "time": ("timestamp", put(99.0), "time_error"),
    "gap": ("frame_index", put(70), "frame_gap"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_by_episode_and_frame(episodes, params, fault, edit):
    column, change, said = FAULTS[fault]
    edit(episodes, column, change)
    with pytest.raises(quality.QualityError) as caught:
        quality.gate("demonstrations", episodes, params=params)
    message = str(caught.value)
    assert said in message
    assert f"sim, episode 3, frame {70 if fault == 'gap' else 7}" in message
    assert caught.value.exit_code == 3


def test_a_failed_gate_leaves_its_report_in_the_cache(episodes, params, tmp_path, edit):
    edit(episodes, "action", put(math.nan, 2))
    with pytest.raises(quality.QualityError):
        quality.gate("demonstrations", episodes, params=params)
    report = read_json(tmp_path / ".cache/quality/demonstrations.json")
    assert not report["success"]
    assert report["expectations"][0]["rows"] == [
        {"dataset": "sim", "episode_index": 3, "frame_index": 7, "action.z": None}
    ]
    assert "episode 3, frame 7" in (tmp_path / ".cache/quality/demonstrations.html").read_text()


def test_a_missing_column_is_told_from_a_failed_expectation(episodes, params, edit):
    edit(episodes, "observation.controller", lambda values: None)
    with pytest.raises(quality.QualityError, match=r"controller\.x.*missing"):
        quality.gate("demonstrations", episodes, params=params)
    found = read_json(".cache/quality/demonstrations.json")
    assert found["counts"]["missing"] > 0
    assert found["counts"]["failed"] == 0


def test_an_episode_that_fails_its_task_is_refused(episodes, params, edit):
    edit(episodes, "observation.environment_state", lambda rows: [[0.0] * len(r) for r in rows])
    with pytest.raises(quality.QualityError, match=r"success_last.*sim, episode 0"):
        quality.gate("demonstrations", episodes, params=params)


def test_the_same_episode_twice_is_refused(episodes, params, edit):
    edit(episodes, "action", lambda rows: rows[:FRAMES] + rows[:FRAMES] + rows[2 * FRAMES :])
    with pytest.raises(quality.QualityError, match=r"action_hash.*sim, episode 0.*sim, episode 1"):
        quality.gate("demonstrations", episodes, params=params)


def test_damaged_and_empty_pictures_are_refused(episodes, params, edit):
    def damage(rows):
        rows[AT - 7]["bytes"] = b"\x89PNG\r\n\x1a\n damaged"
        return rows

    edit(episodes, "observation.images.camera", damage)
    with pytest.raises(quality.QualityError, match=r"decoded.*sim, episode 3, frame 0"):
        quality.gate("demonstrations", episodes, params=params)


def test_too_few_episodes_of_a_task_are_refused(episodes, params):
    more = config.parse(config.merge(params.model_dump(), {"demonstrations": {"per_task": 3}}))
    with pytest.raises(quality.QualityError, match=r"episodes: at least 3.*put carrot on plate"):
        quality.gate("demonstrations", episodes, params=more)


def test_another_convention_is_refused(episodes, params):
    about = episodes / "meta" / "dualvla.json"
    about.write_text(about.read_text().replace("+1 open, -1 closed", "0 open, 1 closed"))
    with pytest.raises(quality.QualityError, match="convention_matches"):
        quality.gate("demonstrations", episodes, params=params)


def test_the_same_data_gives_the_same_report(episodes, params, edit):
    edit(episodes, "action", put(math.nan, 2))
    texts = []
    for _ in range(2):
        with pytest.raises(quality.QualityError):
            quality.gate("demonstrations", episodes, params=params)
        texts.append((episodes / "quality.json").read_bytes())
    assert texts[0] == texts[1]


@pytest.fixture
def imported(tmp_path, params, encoded):
    """An imported data set without instructions, and its parameters."""
    root, about = tmp_path / "imported", lerobot.About("bridge", "rlds", conventions.WIDOWX_BRIDGE)
    rng = np.random.default_rng(0)
    with lerobot.Writer(root, 5, "widowx", lerobot.robot_features(32, 32), about) as writer:
        for episode in range(2):
            numbers = rng.uniform(0, 0.1, (2, FRAMES, 7)).astype(np.float32)
            columns = {lerobot.ACTION: numbers[0], lerobot.STATE: numbers[1]}
            images = [encoded(100 * episode + frame) for frame in range(FRAMES)]
            writer.add(columns, {lerobot.CAMERA: images}, "")
    patch = {"demonstrations": {"source": "rlds", "rlds_path": "rlds"}}
    return root, config.parse(config.merge(params.model_dump(), patch))


def test_an_imported_data_set_without_instructions_is_a_warning(imported):
    root, params = imported
    quality.gate("demonstrations", root, params=params)
    report = read_json(root / "quality.json")
    assert report["counts"]["warned"] == 1
    assert report["expectations"][0]["columns"] == ["instruction_words"]


def test_an_imported_data_set_keeps_its_own_convention(imported, params):
    with pytest.raises(quality.QualityError, match=r"convention_matches|controller"):
        quality.gate("demonstrations", imported[0], params=params)
