"""Stage multimodal: render scenes and ask questions about them -> data/multimodal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.data import multimodal
from dualvla.simulation import scenes, vulkan
from dualvla.stages import runner

SHARD = 512  # pictures a parquet file


def main(params: Params) -> None:
    """Write conversations, pictures and labels of the training and the held-out scenes."""
    vulkan.require()
    talks: dict[str, list[dict[str, Any]]] = {split: [] for split in scenes.SPLITS}
    labels: list[dict[str, Any]] = []
    with files.replacing(paths.MULTIMODAL) as out:
        (out / "images").mkdir(parents=True)
        pictures = _Pictures(out / "images")
        for scene in _rendered(params):
            pictures.add(scene.name, scenes.encode(scene.image))
            labels += multimodal.label_rows(scene)
            count = params.multimodal.questions_per_scene
            talks[scene.split] += multimodal.conversations(scene, count, params.seed)
        pictures.close()
        for split, asked in talks.items():
            files.write_json(out / f"{split}.json", asked)
            progress.log(f"{split}: {len(asked)} questions")
        _write_labels(out / "scenes.parquet", labels)
        quality.gate("multimodal", out, params=params)


def _rendered(params: Params) -> Iterator[scenes.Scene]:
    sizes = {"train": params.multimodal.scenes, "heldout": params.multimodal.heldout_scenes}
    wanted = [(split, index) for split in scenes.SPLITS for index in range(sizes[split])]
    yield from progress.track(scenes.render(params, wanted), len(wanted), "scenes rendered")


class _Pictures:
    """Encoded pictures in shards, so that a folder holds few files and readers can stream."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[tuple[str, bytes]] = []
        self._shards = 0

    def add(self, name: str, data: bytes) -> None:
        self._rows.append((name, data))
        if len(self._rows) == SHARD:
            self.close()

    def close(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        names, data = zip(*self._rows, strict=True)
        table = pa.table({"name": pa.array(names), "bytes": pa.array(data, pa.binary())})
        path = self._folder / f"shard-{self._shards:05d}.parquet"
        # JPEG does not compress further.
        pq.write_table(table, path, compression="none", row_group_size=128)
        self._rows, self._shards = [], self._shards + 1


def _write_labels(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = ("u", "v", "x", "y", "z", "yaw", "visible", "opening")
    schema = pa.schema(
        [(name, pa.string()) for name in ("image", "split", "object")]
        + [(name, pa.float32()) for name in numbers]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


if __name__ == "__main__":
    runner.run(main)
