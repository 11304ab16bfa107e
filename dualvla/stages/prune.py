"""Stage prune: which frames of data/annotated keep their reasoning text -> data/pruned."""

from typing import TYPE_CHECKING

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.stages import runner

if TYPE_CHECKING:
    from dualvla.data.lerobot import Dataset
    from dualvla.pruning.boundaries import Labels, Mask

SCHEMA = 1
LEAST_LABELLED = 2  # episodes


def main(params: Params) -> None:
    """Judge every frame of every episode.

    Writes verdicts.parquet, retention.json and timeline.png; where episodes have phases or were
    labelled also events.json (how well held-out boundaries are found), and with `learned` the
    detector.

    Raises:
        UserError: no data set, no base model, or as `read_labels`.
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
    source, labels = read_labels(dataset, params)
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
            what = {"scene_layer": params.prune.scene_layer, "labels": source}
            events = {"schema": SCHEMA} | what | events
            files.write_json(out / "events.json", events)
            progress.log(boundaries.describe(events))
        if learned:
            detector.save(network, out / "detector")
        drawn = images[: len(tables[0])]
        timeline.draw(out / "timeline.png", tables[0], drawn, chosen[0].threshold)
        quality.gate("pruned", out, params=params, annotated=paths.ANNOTATED)
    kept, frames = statistics["all"]["counts"]["keep"], statistics["all"]["frames"]
    progress.log(f"{kept} of {frames} frames ({kept / frames:.1%}) keep their text")


def read_labels(dataset: "Dataset", params: Params) -> tuple[str, "Labels"]:
    """Where boundaries are known from (`phases` or `people`), and they, split for training.

    Raises:
        UserError: people's labels do not fit the data set; the learned layer is asked for and too
            few episodes are labelled.
    """
    from dualvla.labelling import labels
    from dualvla.pruning import boundaries

    source, wanted = "phases", params.prune.labels
    found = {} if wanted == "people" else phases(dataset)
    if not found and wanted != "phases":
        source, found = "people", labels.masks(paths.LABELS, dataset)
    tasks = [str(task) for task in dataset.episodes["task"]]
    chosen = boundaries.split(found, tasks, params.prune.detector_episodes, params.seed)
    if params.prune.scene_layer == "learned":
        what = None
        if source == "phases" and not found:
            what = "no episode has phases to learn from"
        elif source == "people" and len(found) < LEAST_LABELLED:
            missing = "" if wanted == "people" else "no episode has phases to learn from, and "
            what = f"{missing}{len(found)} episodes are labelled in {paths.LABELS}, not "
            what += f"{LEAST_LABELLED} (one to learn from, one to score)"
        elif not any(found[episode].any() for episode in chosen.training):
            what = f"no boundary in the {len(chosen.training)} episodes to learn from"
        if what is not None:
            fix = "label episodes with `dualvla label`, or set prune.scene_layer: change_point"
            raise UserError(
                f"prune.scene_layer is learned, but {what}", where=str(dataset.root), fix=fix
            )
    return source, chosen


def phases(dataset: "Dataset") -> "dict[int, Mask]":
    """Boundaries (T,) of the episodes that have simulator phases, by place; none if imported."""
    from dualvla.conventions import ENVIRONMENT_STATE_NAMES
    from dualvla.data.lerobot import ENVIRONMENT
    from dualvla.pruning import boundaries

    feature = dataset.features.get(ENVIRONMENT)
    if feature is None or feature.shape != (len(ENVIRONMENT_STATE_NAMES),):
        return {}
    states, found = dataset.column(ENVIRONMENT), {}
    for place in range(len(dataset.episodes)):
        rows = dataset.rows(place)
        mask = boundaries.from_environment(states[rows.start : rows.stop])
        if mask is not None:
            found[place] = mask
    return found


if __name__ == "__main__":
    runner.run(main)
