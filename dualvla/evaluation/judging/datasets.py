"""Cases of an annotated data set: the expert's own trajectories with true texts.

They are what a judge is calibrated on, because nothing is wrong with them until a fault is planted.
The last frame's action leads to a state that was not recorded, so it is left out.
"""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dualvla.conventions import ENVIRONMENT_STATE_NAMES, STATE_NAMES
from dualvla.data import language, lerobot
from dualvla.data.lerobot import ACTION, CAMERA, ENVIRONMENT, PERSISTENT, STATE, Dataset
from dualvla.errors import UserError
from dualvla.evaluation.judges import Clip
from dualvla.evaluation.judging.cases import Case
from dualvla.interface import ImageArray
from dualvla.simulation.environments import TASKS

_SUCCESS, _YAW = ENVIRONMENT_STATE_NAMES.index("success"), STATE_NAMES.index("yaw")


def read(root: Path, per_task: int | None = None) -> list[Case]:
    """Cases of a data set, in the order of its episodes.

    Args:
        root: data/annotated.
        per_task: first episodes of each task; None: all.

    Raises:
        UserError: no data set, or one without texts or without the simulator's state.
    """
    dataset = lerobot.open_dataset(root)
    for name, what in ((ENVIRONMENT, "the simulator's state"), (PERSISTENT, "texts")):
        if name not in dataset.features:
            fix = "use data/annotated of a simulated collection"
            raise UserError(f"has not {what}", where=str(root), fix=fix)
    columns = {name: dataset.column(name) for name in (ACTION, STATE, ENVIRONMENT)}
    said = language.reasoning(dataset)
    by_instruction = {spec.instruction: spec for spec in TASKS.values()}
    counts: dict[str, int] = {}
    found = []
    for index, instruction in enumerate(dataset.episodes["task"]):
        spec = by_instruction.get(str(instruction))
        if spec is None or (per_task is not None and counts.get(spec.name, 0) >= per_task):
            continue
        counts[spec.name] = counts.get(spec.name, 0) + 1
        rows = dataset.rows(index)
        part = slice(rows.start, rows.stop)
        acted = np.ones(len(rows) - 1, bool)
        clip = Clip(
            source=spec.source,
            target=spec.target,
            actions=columns[ACTION][part][:-1].astype(np.float64),
            environment=columns[ENVIRONMENT][part].astype(np.float64),
            yaw=columns[STATE][part][:, _YAW].astype(np.float64),
            decided=acted,
            wrote=acted,
            texts=tuple(said[row] for row in rows[:-1]),
        )
        film = partial(_film, dataset, rows) if CAMERA in dataset.features else None
        success = bool(clip.environment[-1, _SUCCESS] > 0.5)
        key = (dataset.name, spec.name, str(index))
        found.append(Case(key, str(instruction), clip, success, film))
    if not found:
        raise UserError("no episode of a known task", where=str(root), fix="see TASKS")
    return found


def _film(dataset: Dataset, rows: range, steps: Sequence[int]) -> list[ImageArray]:
    encoded = dataset.images(CAMERA, [rows[step] for step in steps])
    return [np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in encoded]
