"""Annotate every episode: data/demonstrations to data/annotated, with language columns.

Episodes are copied with their pictures, so that every later stage needs one data set only; DVC and
the file system keep a second copy of small encoded pictures cheaper than a join would be to trust.
"""

from pathlib import Path

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.data import annotations, lerobot
from dualvla.data.annotations import Episode
from dualvla.data.lerobot import ACTION, ENVIRONMENT, PERSISTENT, STATE, Dataset
from dualvla.errors import UserError
from dualvla.stages import runner


def main(params: Params) -> None:
    """Write data/annotated and check it."""
    source = lerobot.open_dataset(paths.DEMONSTRATIONS)
    if PERSISTENT in source.features:
        fix = "write the demonstrations anew"
        raise UserError("is annotated already", where=str(source.root), fix=fix)
    with files.replacing(paths.ANNOTATED) as out:
        write(source, out, params)
        quality.gate("annotations", out, params=params)


def write(source: Dataset, out: Path, params: Params) -> None:
    """Write `source` with annotations to `out`; same name, same frames, same order."""
    pictures = [name for name, feature in source.features.items() if feature.dtype == "image"]
    kept = [n for n in source.features if n not in (*lerobot.DEFAULTS, *pictures)]
    columns = {name: source.column(name) for name in kept}
    features = {name: source.features[name] for name in (*pictures, *kept)} | lerobot.LANGUAGE
    fps, count = int(source.info["fps"]), len(source.episodes)
    around = source.about.extra.get("distractors", {})
    silent = 0
    with lerobot.Writer(out, fps, source.info["robot_type"], features, source.about) as writer:
        for index in progress.track(range(count), count, "annotate"):
            rows = source.rows(index)
            part = {name: values[rows.start : rows.stop] for name, values in columns.items()}
            task = str(source.episodes["task"].iloc[index])
            others = tuple(around.get(str(index), ()))
            episode = Episode(index, task, part[STATE], part[ACTION], part.get(ENVIRONMENT), others)
            annotation = annotations.annotate(
                episode, params.annotate, seed=params.seed, dataset=source.name
            )
            persistent, events = annotations.rows(annotation, fps)
            images = {name: source.images(name, rows) for name in pictures}
            writer.add(part, images, task, persistent=persistent, events=events)
            silent += not task.strip()
    if silent:
        progress.log(f"annotate: {silent} episodes without instruction: no rewrites, no contexts")


if __name__ == "__main__":
    runner.run(main)
