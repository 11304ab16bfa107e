"""Stage prune: which frames of data/annotated keep their reasoning text -> data/pruned."""

from typing import TYPE_CHECKING

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner

if TYPE_CHECKING:
    from dualvla.data.lerobot import Dataset
    from dualvla.pruning.boundaries import Labels

SCHEMA = 1


def main(params: Params) -> None:
    """Judge every frame of every episode.

    Writes verdicts.parquet, retention.json and timeline.png; where episodes have phases also
    events.json (how well held-out boundaries are found), and with `learned` the detector.

    Raises:
        UserError: no data set, no base model, or `learned` and no episode with phases.
    """
    import pandas as pd

    from dualvla.data import lerobot
    from dualvla.models.features import vision_features
    from dualvla.pruning import boundaries, detector, prune, scenes, timeline

    dataset = lerobot.open_dataset(paths.ANNOTATED)
    model = paths.model("base_vlm")
    if not model.is_dir():
        fix = "run the base_vlm stage"
        raise UserError("no model to take image features from", where=str(model), fix=fix)
    labels = read_labels(dataset, params)
    states, images = dataset.column("observation.state"), dataset.images()
    progress.log(f"image features of {len(states)} frames")
    features = vision_features(model, images)
    records = dataset.episodes.to_dict("records")
    rows = [slice(int(e["dataset_from_index"]), int(e["dataset_to_index"])) for e in records]
    parts = [features[row] for row in rows]
    layers = {"change_point": [scenes.change_points(part, params.prune) for part in parts]}
    if learned := params.prune.scene_layer == "learned":
        progress.log(f"boundary detector from {len(labels.training)} labelled episodes")
        network = scenes.train(parts, labels, params.prune, params.seed)
        layers["learned"] = [scenes.learned(network, part, params.prune) for part in parts]
    chosen = layers[params.prune.scene_layer]
    tables = []
    for episode, row, layer in zip(records, rows, chosen, strict=True):
        index, task = int(episode["episode_index"]), str(episode["task"])
        arrays = {"states": states[row], "scene_score": layer.scores, "scene": layer.events}
        tables.append(prune.verdicts(dataset.name, index, task, **arrays, params=params.prune))
    table = pd.concat(tables, ignore_index=True)
    statistics = prune.retention(table)
    with files.replacing(paths.PRUNED) as out:
        out.mkdir()
        table.to_parquet(out / "verdicts.parquet", index=False)
        record = {"schema": SCHEMA, "keep_free_form": params.prune.keep_free_form}
        files.write_json(out / "retention.json", record | {"retention": statistics})
        if labels.boundaries:
            found = {name: [one.events for one in layer] for name, layer in layers.items()}
            events = boundaries.table(labels, found, params.prune.event_tolerance)
            events = {"schema": SCHEMA, "scene_layer": params.prune.scene_layer} | events
            files.write_json(out / "events.json", events)
            progress.log(boundaries.describe(events))
        if learned:
            detector.save(network, out / "detector")
        drawn = images[: len(tables[0])]
        timeline.draw(out / "timeline.png", tables[0], drawn, chosen[0].threshold)
        quality.gate("pruned", out, params=params, annotated=paths.ANNOTATED)
    kept, frames = statistics["all"]["counts"]["keep"], statistics["all"]["frames"]
    progress.log(f"{kept} of {frames} frames ({kept / frames:.1%}) keep their text")


def read_labels(dataset: "Dataset", params: Params) -> "Labels":
    """Boundaries of the episodes that have phases, split for training; none for imported data.

    Raises:
        UserError: the learned layer is asked for and no episode has phases.
    """
    from dualvla.conventions import ENVIRONMENT_STATE_NAMES
    from dualvla.data.lerobot import ENVIRONMENT
    from dualvla.pruning import boundaries

    feature, found = dataset.features.get(ENVIRONMENT), {}
    if feature is not None and feature.shape == (len(ENVIRONMENT_STATE_NAMES),):
        states = dataset.column(ENVIRONMENT)
        for place in range(len(dataset.episodes)):
            rows = dataset.rows(place)
            mask = boundaries.from_environment(states[rows.start : rows.stop])
            if mask is not None:
                found[place] = mask
    if params.prune.scene_layer == "learned" and not found:
        what = "prune.scene_layer is learned, but no episode has phases to learn from"
        fix = f"label episodes first (phase in {ENVIRONMENT}, as simulation records it), "
        fix += "or set prune.scene_layer: change_point"
        raise UserError(what, where=str(dataset.root), fix=fix)
    tasks = [str(task) for task in dataset.episodes["task"]]
    return boundaries.split(found, tasks, params.prune.detector_episodes, params.seed)


if __name__ == "__main__":
    runner.run(main)
