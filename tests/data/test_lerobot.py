import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dualvla import conventions, files
from dualvla.data import lerobot
from dualvla.data.lerobot import ACTION, CAMERA, EVENTS, PERSISTENT, STATE
from dualvla.errors import UserError

ABOUT = lerobot.About("demo", "simulation", conventions.WIDOWX_SIMULATION, "generated")


def picture(level: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 10, 20)).save(stream, kind)
    return stream.getvalue()


def episode(length: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    columns = {STATE: rng.normal(size=(length, 7)), ACTION: rng.normal(size=(length, 7))}
    return columns, {CAMERA: [picture(17 * i % 256) for i in range(length)]}


def write(root: Path, lengths=(3, 5), language=False, **options) -> Path:
    features = lerobot.robot_features(8, 8) | (lerobot.LANGUAGE if language else {})
    with lerobot.Writer(root, 5, "widowx", features, ABOUT, **options) as writer:
        for index, length in enumerate(lengths):
            columns, images = episode(length, index)
            said = {}
            if language:
                plan = {"role": "assistant", "content": f"p{index}", "style": "plan"}
                said["persistent"] = [plan | {"timestamp": 0.0}]
                said["events"] = [
                    [{"role": "user", "content": f"e{t}", "style": "vqa", "camera": CAMERA}]
                    for t in range(length)
                ]
            writer.add(columns, images, f"task {index % 2}", **said)
    return root


def test_layout_is_lerobots(tmp_path):
    root = write(tmp_path / "d")
    found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert found == [
        "data/chunk-000/file-000.parquet",
        "meta/dualvla.json",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
    ]
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 8, 2)
    assert info["splits"] == {"train": "0:2"}
    assert info["video_path"] is None
    assert {"timestamp", "frame_index", "episode_index", "index", "task_index"} <= set(
        info["features"]
    )
    assert info["features"][ACTION]["shape"] == [7]
    tasks = pd.read_parquet(root / "meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert tasks["task_index"].to_dict() == {"task 0": 0, "task 1": 1}
    rows = pd.read_parquet(root / "meta/episodes/chunk-000/file-000.parquet")
    assert rows["dataset_to_index"].tolist() == [3, 8]
    assert np.shape(rows["stats/action/mean"][0]) == (7,)
    assert rows[f"stats/{CAMERA}/count"][0].tolist() == [3]


def test_hugging_face_metadata_describes_every_column(tmp_path):
    schema = pq.read_schema(
        write(tmp_path / "d", language=True) / "data/chunk-000/file-000.parquet"
    )
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert set(described) == set(schema.names)
    assert described[CAMERA] == {"_type": "Image"}
    assert described[ACTION]["length"] == schema.field(ACTION).type.list_size == 7


def test_datasets_reads_the_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = write(tmp_path / "d") / "data/chunk-000/file-000.parquet"
    table = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert table[0][CAMERA].size == (8, 8)


def test_bytes_are_the_same_for_the_same_episodes(tmp_path):
    first, second = (write(tmp_path / name, language=True) for name in "ab")
    assert files.sha256(first) == files.sha256(second)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    megabytes=st.sampled_from([0.001, 0.004, 100]),
)
def test_roundtrip_keeps_every_frame(tmp_path_factory, lengths, megabytes):
    root = tmp_path_factory.mktemp("roundtrip") / "d"
    data = lerobot.open_dataset(write(root, lengths, language=True, file_megabytes=megabytes))
    given_columns = [episode(length, index) for index, length in enumerate(lengths)]
    for name in (STATE, ACTION):
        expected = np.concatenate([c[name] for c, _ in given_columns]).astype(np.float32)
        np.testing.assert_array_equal(data.column(name), expected)
    pictures = [p for _, images in given_columns for p in images[CAMERA]]
    assert data.images() == pictures
    some = [data.length - 1, 0]
    assert data.images(rows=some) == [pictures[i] for i in some]
    assert data.column("frame_index").tolist() == [t for n in lengths for t in range(n)]
    assert data.column("index").tolist() == list(range(sum(lengths)))
    assert [r[0]["content"] for r in data.language(PERSISTENT)] == [
        f"p{i}" for i in range(len(lengths))
    ]
    assert [r[0]["content"] for r in data.language(EVENTS)] == [
        f"e{t}" for n in lengths for t in range(n)
    ]
    assert data.episodes["length"].tolist() == list(lengths)
    if len(lengths) > 1 and sum(map(len, pictures)) > megabytes * 2**20:
        assert len(data.paths) > 1


def test_statistics_are_those_of_all_frames(tmp_path):
    data = lerobot.open_dataset(write(tmp_path / "d"))
    actions = data.column(ACTION).astype(np.float64)
    stats = data.stats[ACTION]
    np.testing.assert_allclose(stats["mean"], actions.mean(0))
    np.testing.assert_allclose(stats["q01"], np.quantile(actions, 0.01, axis=0))
    assert stats["count"] == [8]
    pictures = data.stats[CAMERA]
    assert np.shape(pictures["mean"]) == np.shape(pictures["q99"]) == (3, 1, 1)
    assert 0 <= np.min(pictures["min"]) <= np.max(pictures["max"]) <= 1


def test_numbers_are_read_without_decoding_pictures(tmp_path, monkeypatch):
    root = write(tmp_path / "d")
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was decoded"))
    data = lerobot.open_dataset(root)
    assert data.column(STATE).shape == (8, 7)
    assert len(data.images()) == 8


def test_nothing_is_left_of_a_failed_write(tmp_path):
    columns, images = episode(3)
    columns[ACTION][1, 2] = np.nan
    with (
        pytest.raises(UserError, match="episode 0: action, frame 1"),
        lerobot.Writer(tmp_path / "d", 5, "widowx", lerobot.robot_features(8, 8), ABOUT) as writer,
    ):
        writer.add(columns, images, "task")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, i: c.update({ACTION: c[ACTION][:, :6]}), r"action has shape \(3, 6\)"),
        (lambda c, i: c.update({STATE: c[STATE][:2]}), "has shape"),
        (lambda c, i: c.pop(STATE), "columns do not match"),
        (lambda c, i: i.update({CAMERA: i[CAMERA][:2]}), "2 pictures for 3 frames"),
        (lambda c, i: i.update({CAMERA: [b"GIF89a"] * 3}), "neither JPEG nor PNG"),
    ],
)
def test_writer_refuses_wrong_episodes(tmp_path, change, message):
    columns, images = episode(3)
    change(columns, images)
    writer = lerobot.Writer(tmp_path / "d", 5, "widowx", lerobot.robot_features(8, 8), ABOUT)
    with pytest.raises(UserError, match=message):
        writer.add(columns, images, "task")
    writer.abort()


def edit_info(root: Path, **changes) -> None:
    path = root / "meta/info.json"
    files.write_json(path, json.loads(path.read_text()) | changes)


def test_reader_refuses_what_is_no_data_set(tmp_path):
    with pytest.raises(UserError, match="no such data set"):
        lerobot.open_dataset(tmp_path / "missing")
    root = write(tmp_path / "d")
    edit_info(root, codebase_version="v2.1")
    with pytest.raises(UserError, match=r"version 'v2\.1'"):
        lerobot.open_dataset(root)


@pytest.mark.parametrize("key", ["total_frames", "total_episodes", "total_tasks"])
def test_reader_compares_totals(tmp_path, key):
    root = write(tmp_path / "d")
    edit_info(root, **{key: 7})
    with pytest.raises(UserError, match=f"{key} is 7"):
        lerobot.open_dataset(root)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_reader_refuses_truncated_files(tmp_path, share):
    root = write(tmp_path / "d")
    path = root / "data/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="damaged or no Parquet file"):
        lerobot.open_dataset(root)


def test_reader_refuses_a_flipped_bit(tmp_path):
    root = write(tmp_path / "d")
    path = root / "data/chunk-000/file-000.parquet"
    data = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(0)
    (column,) = (
        group.column(i)
        for i in range(group.num_columns)
        if group.column(i).path_in_schema.startswith(ACTION)
    )
    data[column.dictionary_page_offset + column.total_compressed_size - 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged or no Parquet file"):
        lerobot.open_dataset(root)


def test_reader_refuses_a_declared_column_that_is_missing(tmp_path):
    root = write(tmp_path / "d")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    edit_info(root, features=features | {"reward": {"dtype": "float32", "shape": [1]}})
    with pytest.raises(UserError, match="columns are missing: reward"):
        lerobot.open_dataset(root)


@pytest.mark.parametrize("name", [STATE, ACTION])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_reader_names_episode_and_frame_of_a_number_that_is_none(tmp_path, name, value):
    root = write(tmp_path / "d")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    rows = table[name].to_pylist()
    rows[4][3] = value
    column = table.schema.get_field_index(name)
    import pyarrow as pa

    changed = pa.array(rows, table.schema.field(name).type)
    pq.write_table(table.set_column(column, table.schema.field(name), changed), path)
    with pytest.raises(UserError, match=f"episode 1, frame 1: {name} is not finite"):
        lerobot.open_dataset(root)


def test_reader_refuses_other_actions(tmp_path):
    root = write(tmp_path / "d")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[ACTION]["shape"] = [8]
    edit_info(root, features=features)
    with pytest.raises(UserError, match="not 7"):
        lerobot.open_dataset(root)


def test_reader_needs_the_convention(tmp_path):
    root = write(tmp_path / "d")
    (root / "meta/dualvla.json").unlink()
    with pytest.raises(UserError, match=r"dualvla\.json: no such file"):
        lerobot.open_dataset(root)


def test_video_is_refused_by_name(tmp_path):
    root = write(tmp_path / "d")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[CAMERA]["dtype"] = "video"
    edit_info(root, features=features)
    with pytest.raises(UserError, match=r"images\.camera \(video"):
        lerobot.open_dataset(root)
