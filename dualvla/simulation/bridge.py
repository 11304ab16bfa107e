"""ManiSkill's Bridge table and sink with all objects at once, to be arranged as one likes.

A subclass of ManiSkill's own environment, so that camera, lights, robot and photo overlay are those
of the tasks. ManiSkill reads its assets' folder on import, so nothing of it is imported before the
asset pack is active.
"""

import logging
from functools import cache
from typing import Any

import numpy as np

from dualvla import poses as turns
from dualvla.objects import BY_NAME
from dualvla.simulation import layouts
from dualvla.simulation.environments import NATIVE_INTRINSIC, NATIVE_SIZE, Pack
from dualvla.simulation.shapes import Array, apply, pose

FAR = 50.0  # metres behind the camera, where unused objects wait
TABLE_TOP = 0.8695
GRID = 0.004  # metres, of the sink's height map


def load(name: str, assets: Pack, image_size: int) -> Any:
    """Load a setting with all its objects, and let them come to rest once."""
    from dualvla.simulation import assets as packs

    packs.activate(assets)
    import torch

    torch.set_num_threads(1)
    scale = np.array([[image_size / NATIVE_SIZE[0]], [image_size / NATIVE_SIZE[1]], [1.0]])
    scene = _classes()[name]
    # After ManiSkill's import, which sets the level; the blank in the name is its own.
    logging.getLogger("mani_skill ").setLevel(logging.ERROR)
    environment = scene(
        obs_mode="rgb+segmentation",
        render_backend="cpu",
        sim_backend="cpu",
        num_envs=1,
        sensor_configs={
            "width": image_size,
            "height": image_size,
            "intrinsic": np.array(NATIVE_INTRINSIC) * scale,
        },
    )
    environment.reset(seed=0, options={"episode_id": torch.tensor([0])})
    return environment


@cache
def _classes() -> dict[str, Any]:
    """The two environment classes; made late, because ManiSkill reads its assets on import."""
    from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval import put_on_in_scene as tasks
    from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval.base_env import (
        BRIDGE_DATASET_ASSET_PATH,
        BaseBridgeEnv,
    )
    from mani_skill.utils import io_utils
    from torch import tensor as torch_tensor

    cubes = tasks.StackGreenCubeOnYellowCubeBakedTexInScene.MODEL_JSON
    places = {
        # Apart from each other on the table, to come to rest there.
        "table": [(x, y, TABLE_TOP + 0.02) for x in (-0.30, -0.18, -0.06) for y in (-0.1, 0, 0.1)],
        # Only the basket's target plane is dropped into the sink.
        "sink": [(-0.125, 0.025, 1.0), *((FAR, i, 0.0) for i in range(8))],
    }
    names = {"table": layouts.TABLE, "sink": ("basket", *layouts.SINK)}

    def derived(setting: str, base: Any) -> Any:
        class Scene(base):
            scene_setting = "flat_table" if setting == "table" else setting

            def __init__(self, **options: Any) -> None:
                # ManiSkill keeps these two on the class, shared by all environments of a process.
                self._rgb_overlay_images: dict[str, Any] = {}
                self._objects_to_remove_from_greenscreen: list[Any] = []
                models = [BY_NAME[name].model for name in names[setting]]
                self.objects_excluded_from_greenscreening = [
                    model for model in models if model != BY_NAME["basket"].model
                ]
                count = len(models)
                BaseBridgeEnv.__init__(
                    self,
                    obj_names=models,
                    xyz_configs=torch_tensor([places[setting][:count]]),
                    quat_configs=torch_tensor([[(1.0, 0.0, 0.0, 0.0)] * count]),
                    **options,
                )

            def _load_scene(self, options: dict[str, Any]) -> None:
                self.model_db |= io_utils.load_json(BRIDGE_DATASET_ASSET_PATH / "custom" / cubes)
                super()._load_scene(options)

            def evaluate(self) -> dict[str, Any]:
                return {}

        return Scene

    return {
        "table": derived("table", BaseBridgeEnv),
        "sink": derived("sink", tasks.PutEggplantInBasketScene),
    }


class Floor:
    """Height of what is fixed: the table's plane, or the sink's collision pieces on a grid."""

    def __init__(self, environment: Any) -> None:
        from scipy.spatial import ConvexHull

        self._low = np.array([-0.34, -0.12])
        shape = (int(0.34 / GRID), int(0.5 / GRID))
        self._heights = np.full(shape, TABLE_TOP)
        sink = getattr(environment, "sink", None)
        if sink is None:
            return
        grid = np.stack([*np.indices(shape)], axis=-1).reshape(-1, 2) * GRID + self._low
        heights = self._heights.reshape(-1)
        for piece in pieces(sink):
            hull = ConvexHull(apply(matrix(sink), piece))
            slope, room = hull.equations[:, 2], -(grid @ hull.equations[:, :2].T)
            room = room - hull.equations[:, 3]
            level = np.abs(slope) < 1e-9
            up, down = (slope > 0) & ~level, (slope < 0) & ~level
            top = (room[:, up] / slope[up]).min(1)
            inside = np.all(room[:, level] >= 0, axis=1) & (
                top >= (room[:, down] / slope[down]).max(1)
            )
            heights[inside] = np.maximum(heights[inside], top[inside])
        self._heights = heights.reshape(shape)

    def __call__(self, points: Array) -> Array:
        """Heights (n,) at (n, 2) world positions; the nearest edge's beyond the map."""
        cells = np.round((points - self._low) / GRID).astype(int)
        cells = np.clip(cells, 0, np.array(self._heights.shape) - 1)
        return self._heights[cells[:, 0], cells[:, 1]]


def pieces(thing: Any) -> list[Array]:
    """Vertices of an actor's or link's convex collision pieces, in its own frame."""
    body = thing._objs[0]
    if not hasattr(body, "collision_shapes"):
        body = next(part for part in body.components if hasattr(part, "collision_shapes"))
    found = []
    for shape in body.collision_shapes:
        if hasattr(shape, "vertices"):
            points = np.asarray(shape.vertices, float) * np.asarray(shape.scale)
        else:  # a box
            half = np.asarray(shape.half_size, float)
            points = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
        found.append(apply(shape.local_pose.to_transformation_matrix(), points))
    return found


def matrix(thing: Any) -> Array:
    """World pose (4, 4) of an actor, link or articulation."""
    numbers = thing.pose.raw_pose[0].cpu().numpy().astype(float)
    return pose(turns.matrix_from_quaternion(numbers[3:]), numbers[:3])


def put(actor: Any, matrix: Array) -> None:
    """Move an actor to a world pose (4, 4)."""
    import sapien

    actor.set_pose(sapien.Pose(matrix.astype(np.float32)))
