"""Rendered scenes with exact labels, for visual questions and for the vision stem.

A scene is a layout (`layouts`) written into a simulator that holds all objects at once (`bridge`),
and one picture taken through the environment's own pipeline (`studio`), so that it cannot look
different from an episode. No physics runs, which makes a scene about as cheap as a control step;
the price is that contacts are approximate.

Worker processes render scenes by index; what a scene shows depends on (seed, split, index) only.
"""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Literal

import numpy as np

from dualvla.config import Params
from dualvla.interface import ImageArray
from dualvla.simulation import layouts
from dualvla.simulation.studio import Label, Studio

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")

JPEG_QUALITY = 95
DRAWS = 400  # layouts tried before giving up on a scene


@dataclass(frozen=True)
class Scene:
    """One rendered scene."""

    index: int
    split: Split
    setting: str  # table or sink
    task: str  # the task whose pair it shows, or mixed
    image: ImageArray  # (size, size, 3)
    labels: tuple[Label, ...]  # in the order of objects.SLOTS, the gripper last
    opening: float  # of the gripper, 0 closed to 1 open
    held: str | None  # the object between the fingers
    placed: tuple[str, str] | None  # an object and what it lies on

    @property
    def name(self) -> str:
        """File name of the image."""
        return f"{self.split}-{self.index:06d}.jpg"


def render(params: Params, wanted: Sequence[tuple[Split, int]]) -> Iterator[Scene]:
    """Render scenes, each given by split and index, in worker processes; in the order wanted.

    A scene depends on `params.seed`, its split and index, the tasks, the assets and the image size;
    not on the number of workers or on what was rendered before.

    Raises:
        UserError: the asset pack is not there.
    """
    from dualvla.simulation import assets

    assets.activate(params.simulation.assets)  # builds the pack once, before the workers need it
    workers = min(params.simulation.workers, max(1, len(wanted) // 8))
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(params,)
    ) as pool:
        yield from pool.map(_work, wanted, chunksize=4)


class Renderer:
    """Renders scenes in this process; the table and the sink are loaded when first needed."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._studios: dict[str, Studio] = {}

    def scene(self, split: Split, index: int) -> Scene:
        """Render one scene; the same scene whatever was rendered before."""
        rng = np.random.default_rng([self._params.seed, SPLITS.index(split), index])
        name, task = layouts.choose(rng, self._params.simulation.tasks)
        if name not in self._studios:
            simulation = self._params.simulation
            self._studios[name] = Studio(name, simulation.assets, simulation.image_size)
        studio = self._studios[name]
        for _ in range(DRAWS):
            layout = layouts.sample(rng, studio.setting, task, self._params.demonstrations)
            joints = None if layout is None else studio.joints(layout)
            if layout is not None and joints is not None:
                image, labels, opening = studio.shoot(layout, joints)
                return Scene(
                    index, split, name, task, image, labels, opening, layout.held, layout.placed
                )
        raise RuntimeError(f"scene {split} {index}: no layout fits in {DRAWS} draws")

    def close(self) -> None:
        """Release the simulator."""
        for studio in self._studios.values():
            studio.environment.close()


def encode(image: ImageArray) -> bytes:
    """JPEG bytes of an image, the same for the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


_renderers: list[Renderer] = []  # of a worker: the one


def _start(params: Params) -> None:
    """Prepare a worker: one rendering thread each, or the workers fight for the cores."""
    os.environ.setdefault("LP_NUM_THREADS", "1")
    _renderers.append(Renderer(params))


def _work(wanted: tuple[Split, int]) -> Scene:
    return _renderers[0].scene(*wanted)
