import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla import conventions
from dualvla.data import lerobot, rlds
from dualvla.data.lerobot import ACTION, STATE
from dualvla.errors import UserError

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "bridge_rlds_sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no RLDS sample")


@pytest.fixture
def copy(tmp_path) -> Path:
    target = tmp_path / "rlds"
    shutil.copytree(SAMPLE / "bridge_dataset" / "1.0.0", target, copy_function=shutil.copyfile)
    target.chmod(0o755)
    return target


@needs_sample
def test_real_episodes_become_a_data_set(tmp_path):
    rlds.import_rlds(SAMPLE, tmp_path / "d")
    data = lerobot.open_dataset(tmp_path / "d")
    stored = list(rlds.episodes(SAMPLE))
    assert len(data.episodes) == len(stored) == 25
    assert data.length == sum(len(e.states) - 1 for e in stored)
    assert data.info["fps"] == 5
    assert data.convention == conventions.WIDOWX_BRIDGE
    assert "put carrot on plate" in data.tasks
    assert data.images(rows=[0]) == stored[0].images[:1]  # the very bytes
    states, actions = data.column(STATE), data.column(ACTION)
    assert states[:, 6].min() >= 0
    assert states[:, 6].max() <= 1
    assert set(np.unique(actions[:, 6])) == {-1.0, 1.0}
    # Applying the actions leads from one measured pose to the next.
    for index in range(25):
        rows = data.rows(index)
        moved = states[rows.start, :6] + actions[rows.start : rows.stop, :6].cumsum(0)
        np.testing.assert_allclose(moved[-1], stored[index].states[-1, :6], atol=1e-5)


@needs_sample
def test_real_conventions_are_as_declared():
    stored = list(rlds.episodes(SAMPLE))
    moved = np.concatenate([np.diff(e.states[:, :6], axis=0) for e in stored])
    told = np.concatenate([e.actions[:-1, :6] for e in stored])
    for axis in range(6):  # same axis, same sign, same unit, same step
        slope = (moved[:, axis] * told[:, axis]).sum() / (told[:, axis] ** 2).sum()
        assert np.corrcoef(moved[:, axis], told[:, axis])[0, 1] > 0.6
        assert 0.5 < slope < 1.2
    opening = np.concatenate([e.states[1:, 6] for e in stored])
    command = np.concatenate([e.actions[:-1, 6] for e in stored])
    assert command.min() >= 0
    assert command.max() <= 1
    assert opening[command > 0.95].mean() > opening[command < 0.05].mean() + 0.1
    # A pose, not joint angles: the arm works in front of its base and above the table.
    xyz = np.concatenate([e.states[:, :3] for e in stored])
    assert (np.abs(xyz) < 0.6).all()
    assert xyz[:, 0].min() > 0.1
    assert xyz[:, 2].min() > 0


@needs_sample
def test_commanded_actions_can_be_kept(tmp_path):
    rlds.import_rlds(SAMPLE, tmp_path / "d", split="val", relabel=False)
    data = lerobot.open_dataset(tmp_path / "d")
    told = np.concatenate([e.actions[:, :6] for e in rlds.episodes(SAMPLE, "val")])
    np.testing.assert_array_equal(data.column(ACTION)[:, :6], told)
    assert data.about.extra["relabelled"] is False


@needs_sample
def test_truncated_and_incomplete_files_are_refused(copy, tmp_path):
    (shard,) = copy.glob("*-train.tfrecord-*")
    data = shard.read_bytes()
    shard.write_bytes(data[:-1000])
    with pytest.raises(UserError, match="record 24, byte"):
        rlds.import_rlds(copy, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    size = int.from_bytes(data[:8], "little")
    shard.write_bytes(data[: size + 16])  # whole records, but one of 25
    with pytest.raises(UserError, match="1 records, 25 declared"):
        rlds.import_rlds(copy, tmp_path / "d")
    shard.rename(copy / "bridge_dataset-train.tfrecord-00000-of-00002")
    with pytest.raises(UserError, match="1 of 2 files"):
        rlds.import_rlds(copy, tmp_path / "d")
    with pytest.raises(UserError, match="split test"):
        rlds.import_rlds(copy, tmp_path / "d", split="test")


@needs_sample
def test_other_layouts_are_refused(copy, tmp_path):
    path = copy / "features.json"
    text = path.read_text()
    layout = json.loads(text)
    step = layout["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    step["featuresDict"]["features"]["action"]["tensor"]["shape"]["dimensions"] = ["10"]
    path.write_text(json.dumps(layout))
    with pytest.raises(UserError, match="action has shape"):
        rlds.import_rlds(copy, tmp_path / "d")
    path.write_text("{}")
    with pytest.raises(UserError, match="not Bridge's layout"):
        rlds.import_rlds(copy, tmp_path / "d")
    with pytest.raises(UserError, match="0 RLDS data sets"):
        rlds.import_rlds(tmp_path / "rlds" / "..", tmp_path / "d") if not path.unlink() else None


@needs_sample
def test_episodes_without_instruction_are_kept_and_counted(monkeypatch, tmp_path):
    stored = list(rlds.episodes(SAMPLE))[:3]
    silent = rlds.Episode(stored[1].states, stored[1].actions, stored[1].images, "")
    monkeypatch.setattr(rlds, "episodes", lambda *_: iter([stored[0], silent, stored[2]]))
    rlds.import_rlds(SAMPLE, tmp_path / "d")
    data = lerobot.open_dataset(tmp_path / "d")
    assert data.episodes["task"].tolist()[1] == ""
    assert data.about.extra["episodes_without_instruction"] == 1


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30))
def test_gripper_is_decided_by_what_comes_next(values):
    command = rlds.decided(np.array(values, np.float32))
    assert set(command.tolist()) <= {-1.0, 1.0}
    for value, sign in zip(values, command, strict=True):
        if value >= rlds.OPEN or value <= rlds.CLOSED:
            assert sign == (1 if value > 0.5 else -1)


def test_gripper_in_between_takes_the_next_decided_command():
    values = np.array([1, 0.6, 0.0, 0.4, 1, 0.7], np.float32)
    assert rlds.decided(values).tolist() == [1, -1, -1, 1, 1, 1]


def test_angles_are_wrapped_in_measured_deltas():
    states = np.zeros((2, 7), np.float32)
    states[:, 5] = [3.1, -3.1]
    action = rlds.actions(states, np.ones((2, 7), np.float32))
    assert action[0, 5] == pytest.approx(2 * np.pi - 6.2, abs=1e-5)
