"""Stage prune: which frames of data/annotated keep their reasoning text -> data/pruned."""

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner

SCHEMA = 1


def main(params: Params) -> None:
    """Judge every frame of every episode; write verdicts.parquet, retention.json, timeline.png."""
    import pandas as pd

    from dualvla.data import lerobot
    from dualvla.models.features import vision_features
    from dualvla.pruning import prune, timeline

    dataset = lerobot.open_dataset(paths.ANNOTATED)
    model = paths.model("base_vlm")
    if not model.is_dir():
        fix = "run the base_vlm stage"
        raise UserError("no model to take image features from", where=str(model), fix=fix)
    states, images = dataset.column("observation.state"), dataset.images()
    progress.log(f"image features of {len(states)} frames")
    features = vision_features(model, images)
    tables = []
    for episode in dataset.episodes.to_dict("records"):
        rows = slice(int(episode["dataset_from_index"]), int(episode["dataset_to_index"]))
        index, task = int(episode["episode_index"]), str(episode["task"])
        arrays = {"states": states[rows], "features": features[rows]}
        tables.append(prune.verdicts(dataset.name, index, task, **arrays, params=params.prune))
    table = pd.concat(tables, ignore_index=True)
    statistics = prune.retention(table)
    with files.replacing(paths.PRUNED) as out:
        out.mkdir()
        table.to_parquet(out / "verdicts.parquet", index=False)
        record = {"schema": SCHEMA, "keep_free_form": params.prune.keep_free_form}
        files.write_json(out / "retention.json", record | {"retention": statistics})
        drawn = images[: len(tables[0])]
        timeline.draw(out / "timeline.png", tables[0], drawn, params.prune.scene_quantile)
        quality.gate("pruned", out, params=params, annotated=paths.ANNOTATED)
    kept, frames = statistics["all"]["counts"]["keep"], statistics["all"]["frames"]
    progress.log(f"{kept} of {frames} frames ({kept / frames:.1%}) keep their text")


if __name__ == "__main__":
    runner.run(main)
