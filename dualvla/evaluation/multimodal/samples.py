"""Small data sets that the project makes itself, with the columns of the eight benchmarks' own.

They let lmms-eval's real definitions run where the hub cannot be reached: same columns, types,
configs and splits, pictures drawn here. Their scores say that the harness works and nothing about
a model, so that every result made from them is labelled `LABEL`. A data set is a folder
OWNER/NAME as the hub lays it out, with a card that names configs and splits, so that a downloaded
copy of the real one can lie in the same place.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dualvla import files
from dualvla.evaluation.multimodal.sample_rows import ROWS, Row
from dualvla.evaluation.multimodal.tasks import Benchmark

LABEL = "self-made sample"
MARK = "SELF_MADE.json"

TEXT, INT, INT32, IMAGE, TEXTS = "string", "int64", "int32", "image", "strings"
# Columns of each data set on the hub, in its order.
COLUMNS: dict[str, dict[str, str]] = {
    "mmmu": {
        **dict.fromkeys(("id", "question", "options", "explanation"), TEXT),
        **{f"image_{i}": IMAGE for i in range(1, 8)},
        **dict.fromkeys(
            ("img_type", "answer", "topic_difficulty", "question_type", "subfield"), TEXT
        ),
    },
    "mmvet": {
        "question_id": TEXT,
        "image": IMAGE,
        **dict.fromkeys(("question", "answer", "image_source", "capability"), TEXT),
    },
    "mmstar": {
        "index": INT,
        "question": TEXT,
        "image": IMAGE,
        **dict.fromkeys(("answer", "category", "l2_category"), TEXT),
    },
    "ocrbench": {
        **dict.fromkeys(("dataset", "question", "question_type"), TEXT),
        "answer": TEXTS,
        "image": IMAGE,
    },
    "mmbench": {
        "index": INT,
        **dict.fromkeys(("question", "hint", "answer", "A", "B", "C", "D", "category"), TEXT),
        "image": IMAGE,
        **dict.fromkeys(("source", "L2-category", "comment", "split"), TEXT),
    },
    "textvqa": {
        "image_id": TEXT,
        "question_id": INT32,
        "question": TEXT,
        "question_tokens": TEXTS,
        "image": IMAGE,
        "image_width": INT32,
        "image_height": INT32,
        "flickr_original_url": TEXT,
        "flickr_300k_url": TEXT,
        "answers": TEXTS,
        "image_classes": TEXTS,
        "set_name": TEXT,
        "ocr_tokens": TEXTS,
    },
    "infovqa": {
        "questionId": TEXT,
        "question": TEXT,
        "answers": TEXTS,
        "answer_type": TEXTS,
        "image": IMAGE,
        "image_url": TEXT,
        "operation/reasoning": TEXTS,
        "ocr": TEXT,
        "data_split": TEXT,
    },
    "docvqa": {
        "questionId": TEXT,
        "question": TEXT,
        "question_types": TEXTS,
        "image": IMAGE,
        "docId": INT,
        "ucsf_document_id": TEXT,
        "ucsf_document_page_no": TEXT,
        "answers": TEXTS,
        "data_split": TEXT,
    },
}


def write(folder: Path, benchmarks: Sequence[Benchmark]) -> None:
    """Write the data sets of some benchmarks under `folder`; the same bytes every time."""
    import pyarrow.parquet as pq

    splits: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        splits.setdefault(benchmark.dataset, []).append(benchmark)
    for dataset, parts in splits.items():
        with files.replacing(folder / dataset) as out:
            for part in parts:
                path = out / _file(part)
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table(part.name), path)
            files.write_text(out / "README.md", _card(parts))
            files.write_json(out / MARK, {"label": LABEL, "benchmarks": [p.name for p in parts]})


def self_made(dataset: Path) -> bool:
    """Whether a data set's folder was written here."""
    return (dataset / MARK).is_file()


def _file(benchmark: Benchmark) -> str:
    return f"{benchmark.config or 'data'}/{benchmark.split}-00000-of-00001.parquet"


def _card(benchmarks: Sequence[Benchmark]) -> str:
    configs = [
        {
            "config_name": b.config or "default",
            "data_files": [{"split": b.split, "path": _file(b)}],
        }
        for b in benchmarks
    ]
    head = yaml.safe_dump({"configs": configs}, sort_keys=False)
    return f"---\n{head}---\nRows made by dualvla; not a benchmark.\n"


def table(name: str) -> Any:
    """Rows of one benchmark as a pyarrow table that `datasets` reads with its features."""
    import pyarrow as pa

    kinds = {
        TEXT: (pa.string(), {"dtype": "string", "_type": "Value"}),
        INT: (pa.int64(), {"dtype": "int64", "_type": "Value"}),
        INT32: (pa.int32(), {"dtype": "int32", "_type": "Value"}),
        TEXTS: (
            pa.list_(pa.string()),
            {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
        ),
        IMAGE: (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), {"_type": "Image"}),
    }
    columns = COLUMNS[name]
    features = {column: kinds[kind][1] for column, kind in columns.items()}
    schema = pa.schema(
        [(column, kinds[kind][0]) for column, kind in columns.items()],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [_complete(row, columns) for row in ROWS[name]()]
    return pa.Table.from_pylist(rows, schema=schema)


def _complete(row: Row, columns: Mapping[str, str]) -> Row:
    """A row with every column; what it leaves out is empty."""
    unknown = set(row) - set(columns)
    assert not unknown, unknown
    empty: Row = {TEXT: "", INT: 0, INT32: 0, IMAGE: None, TEXTS: []}
    return {column: row.get(column, empty[kind]) for column, kind in columns.items()}
