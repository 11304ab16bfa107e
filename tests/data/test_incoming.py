"""Shards become one data set: the same whoever came first, and no episode twice."""

import offered_shards
import pytest

from dualvla import config, files
from dualvla.data import incoming, lerobot
from dualvla.data.lerobot import ACTION, CAMERA, ENVIRONMENT
from dualvla.errors import UserError
from dualvla.quality import run

SIZE = offered_shards.SIZE


@pytest.fixture
def shards(tmp_path):
    """Three shards; episode 2 lies in two of them."""
    seeds = {"a": (0, 1), "b": (2,), "c": (2, 3)}
    return [offered_shards.write(tmp_path / name, *chosen) for name, chosen in seeds.items()]


def test_an_episode_of_two_shards_is_written_once_and_the_gate_passes(shards, tmp_path):
    counts = incoming.merge(shards, tmp_path / "out", SIZE)
    assert counts == {"shards": 3, "episodes": 4, "frames": 4 * 29, "repeated": 1}
    merged = lerobot.open_dataset(tmp_path / "out")
    whole = lerobot.open_dataset(offered_shards.write(tmp_path / "whole", 0, 1, 2, 3))
    assert (merged.column(ACTION) == whole.column(ACTION)).all()
    assert merged.images(CAMERA) == whole.images(CAMERA)
    values = config.read_yaml("params.yaml")
    patch = {"simulation": {"image_size": SIZE}, "demonstrations": {"source": "incoming"}}
    run.gate(
        "demonstrations",
        tmp_path / "out",
        config.parse(config.merge(values, patch)),
        subject=None,
        inputs={},
        reports=tmp_path,
    )


def test_a_column_that_one_shard_lacks_is_left_out(shards, tmp_path):
    pictures = lerobot.open_dataset(shards[0]).images(CAMERA, range(29))
    about = lerobot.open_dataset(shards[0]).about
    robot = tmp_path / "robot"
    features = lerobot.robot_features(SIZE, SIZE)
    first = lerobot.open_dataset(shards[1])
    columns = {name: first.column(name) for name in (ACTION, lerobot.STATE)}
    columns[ACTION][:, 1] += 1e-3
    with lerobot.Writer(robot, 5, "widowx", features, about) as writer:
        writer.add(columns, {CAMERA: pictures}, "put carrot on plate")
    incoming.merge([shards[0], robot], tmp_path / "out", SIZE)
    found = lerobot.open_dataset(tmp_path / "out")
    assert ENVIRONMENT not in found.features
    assert len(found.episodes) == 3


def test_another_convention_is_refused(shards, tmp_path):
    offered_shards.change_convention(shards[1])
    with pytest.raises(UserError, match="convention gripper differs"):
        incoming.merge(shards, tmp_path / "out", SIZE)
    assert not (tmp_path / "out").exists()


def test_the_manifest_depends_on_the_set_alone(tmp_path):
    rows = [{"sha256": s, "episodes": 1, "frames": 29, "shard": f"x/{s}"} for s in "cab"]
    written = incoming.manifest(rows)
    assert written == incoming.manifest(reversed(rows))
    files.write_json(tmp_path / "manifest.json", written)
    assert incoming.read(tmp_path / "manifest.json") == ["a", "b", "c"]


def test_no_shards_yet_is_said_before_work_starts():
    with pytest.raises(UserError, match="no shards were ingested yet"):
        incoming.read("incoming/manifest.json")
