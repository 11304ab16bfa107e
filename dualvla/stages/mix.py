"""Index what the generalist trains on: data/annotated + data/multimodal -> data/mixture."""

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.stages import runner


def main(params: Params) -> None:
    """Run the stage."""
    from dualvla.data import conversations, lerobot, mixture

    dataset = lerobot.open_dataset(paths.ANNOTATED)
    asked = {
        "train": conversations.load(paths.MULTIMODAL, "train"),
        "heldout": conversations.load(paths.MULTIMODAL, "heldout"),
    }
    table = mixture.build(dataset, asked, params.mix, params.seed)
    with files.replacing(paths.MIXTURE) as out:
        out.mkdir(parents=True)
        table.to_parquet(out / "mixture.parquet", index=False)
        summary = {"schema": 1, "rows": len(table), "counts": mixture.counts(table)}
        files.write_json(out / "mixture.json", summary | {"mix": params.mix.model_dump()})
        quality.gate("mixture", out, params=params, annotated=paths.ANNOTATED)
    progress.log(f"mix: {len(table)} rows")


if __name__ == "__main__":
    runner.run(main)
