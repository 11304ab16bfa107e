import ast
import io
import json

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dualvla import files
from dualvla.evaluation.multimodal import samples, tasks


@pytest.mark.parametrize("benchmark", tasks.select([]), ids=lambda b: b.name)
def test_rows_lie_where_the_card_says(tmp_path, benchmark):
    samples.write(tmp_path, [benchmark])
    folder = tmp_path / benchmark.dataset
    card = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    (config,) = card["configs"]
    assert config["config_name"] == (benchmark.config or "default")
    (part,) = config["data_files"]
    assert part["split"] == benchmark.split
    table = pq.read_table(folder / part["path"])
    assert 2 <= len(table) <= 4
    assert table.column_names == list(samples.COLUMNS[benchmark.name])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    pictured = [name for name, feature in features.items() if feature["_type"] == "Image"]
    for row in table.to_pylist():
        shown = [row[name] for name in pictured if row[name]]
        assert shown
        for picture in shown:
            Image.open(io.BytesIO(picture["bytes"])).verify()


def test_the_same_bytes_every_time(tmp_path):
    for name in ("one", "two"):
        samples.write(tmp_path / name, tasks.select([]))
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "two")


def test_two_benchmarks_of_one_data_set_share_its_folder(tmp_path):
    samples.write(tmp_path, tasks.select(["infovqa", "docvqa"]))
    folder = tmp_path / "lmms-lab-encoder/DocVQA"
    assert {p.parent.name for p in folder.rglob("*.parquet")} == {"InfographicVQA", "DocVQA"}
    assert samples.self_made(folder)


def test_options_are_a_list_in_a_string_as_on_the_hub():
    for row in samples.table("mmmu").to_pylist():
        options = ast.literal_eval(row["options"])
        assert bool(options) == (row["question_type"] == "multiple-choice")
