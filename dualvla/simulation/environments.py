"""The four WidowX tasks of SimplerEnv as one small environment class.

ManiSkill's task classes run unchanged: only the table of start poses is replaced before a reset,
the list of objects where a start brings distractors along, and the camera's size. Three of its
habits cost time or truth and are handled here:

* A reset is bit-exact only if the scene is rebuilt. That takes 0.1 s, because what the interpreter
  loaded is frozen out of the garbage collector, which otherwise needs twice that on every rebuild.
* A step calls hooks around each physics step that do nothing here; they are left out.
* A step renders a picture, twice as expensive as it needs to be where only decision steps look.
  `step(render=False)` advances physics and evaluates the task, and leaves the picture out.
* Its success rule takes the source's height from the first of several episodes in one scene.

On a CPU a scene holds one episode. On a CUDA device it may hold many, each in its own copy of the
room: the same class, of which `reset` and `step` are the case of one.

Nothing is imported from ManiSkill until an environment is made, so the task table is free to read.
"""

import gc
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dualvla import files, poses
from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.errors import UserError
from dualvla.interface import FloatArray, ImageArray, Observation
from dualvla.objects import BY_NAME, Object
from dualvla.poses import Array
from dualvla.simulation.camera import Camera
from dualvla.simulation.starts import Start

Pack = Literal["generated", "official"]
Size = int | tuple[int, int]  # width and height in pixels; a number is a square
Device = Literal["cpu", "cuda"]

CAMERA = "3rd_view_camera"
NATIVE_SIZE = (640, 480)
NATIVE_INTRINSIC = ((623.588, 0.0, 319.501), (0.0, 623.588, 239.545), (0.0, 0.0, 1.0))

TIP = 0.0156  # metres from the controlled link to the finger tips, along the approach axis
FINGER_CLOSED, FINGER_OPEN = 0.015, 0.037  # joint limits, metres
MOVED = 0.03  # an object counts as moved beyond this, metres in the plane
PICKED = 0.03  # a distractor counts as picked up above this, metres over where it lay

_STATE = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}


@dataclass(frozen=True)
class TaskSpec:
    """One task: what ManiSkill calls it, what the robot is told, what is moved onto what."""

    name: str
    env_id: str
    instruction: str
    max_steps: int
    source: str  # objects.Object.name
    target: str

    @property
    def objects(self) -> tuple[Object, Object]:
        """Source and target."""
        return BY_NAME[self.source], BY_NAME[self.target]


_SPECS = (
    TaskSpec("carrot", "PutCarrotOnPlateInScene-v1", "put carrot on plate", 60, "carrot", "plate"),
    TaskSpec(
        "spoon",
        "PutSpoonOnTableClothInScene-v1",
        "put the spoon on the towel",
        60,
        "spoon",
        "towel",
    ),
    TaskSpec(
        "stack",
        "StackGreenCubeOnYellowCubeBakedTexInScene-v1",
        "stack the green block on the yellow block",
        60,
        "green cube",
        "yellow cube",
    ),
    TaskSpec(
        "eggplant",
        "PutEggplantInBasketScene-v1",
        "put eggplant into yellow basket",
        120,
        "eggplant",
        "basket",
    ),
)
TASKS = {spec.name: spec for spec in _SPECS}


def value(observation: Observation, name: str) -> float:
    """One entry of the privileged state, by its name in `ENVIRONMENT_STATE_NAMES`."""
    return float(observation.environment_state[_STATE[name]])


@dataclass(frozen=True, eq=False)
class _Reading:
    """What the simulator says at one step, a row for each of N episodes."""

    target: Array  # (N, 7) the controller's target, base frame
    link: Array  # (N, 7) the controlled link, base frame
    fingers: Array  # (N,) metres
    objects: Array  # (N, 2 + n, 7) source, target and distractors, world
    grasped: Array  # (N,)
    on_target: Array  # (N,)
    success: Array  # (N,)
    images: ImageArray | None  # (N, height, width, 3)


class Environment:
    """One task in this process, reused over episodes.

    Args:
        task: a key of `TASKS`.
        assets: asset pack.
        image_size: of the pictures; the native 4:3 view is squashed into any other shape.
        count: episodes in one scene; more than one needs a CUDA device.
        device: what computes physics and pictures.

    Raises:
        UserError: an unknown task, or a pack that is not there.
    """

    def __init__(
        self, task: str, assets: Pack, image_size: Size, count: int = 1, device: Device = "cpu"
    ) -> None:
        if task not in TASKS:
            raise UserError(f"no such task: {task}", fix=f"one of {', '.join(TASKS)}")
        self.spec = TASKS[task]
        self.max_steps = self.spec.max_steps
        self.count, self.device = count, device
        self._scene = _make(self.spec.env_id, assets, image_size, count, device)
        self._camera: Camera | None = None
        self._cast: tuple[str, ...] = ()  # what is in the scene: source, target, distractors
        self._instructions = [self.spec.instruction] * count
        self._origin: Array = np.zeros((count, 2, 3))
        self._picked = [False] * count  # whether a distractor was, in this episode
        self._base: Array = np.zeros(7)

    def camera(self) -> Camera:
        """The camera; known after the first reset."""
        if self._camera is None:
            raise RuntimeError("reset the environment first: that places the robot")
        return self._camera

    def reset(self, start: Start) -> Observation:
        """Rebuild the scene with the objects at `start`, let them settle, and look.

        The instruction is the start's own, or the task's where it has none.
        """
        return self.reset_all([start])[0]

    def reset_all(self, starts: Sequence[Start]) -> list[Observation]:
        """`reset` of `count` episodes; they settle together, and have the same distractors."""
        import torch

        scene = self._scene
        if len(starts) != self.count or len({start.distractors for start in starts}) != 1:
            raise ValueError(f"not {self.count} starts with the same distractors")
        self._instructions = [start.instruction or self.spec.instruction for start in starts]
        cast = (self.spec.source, self.spec.target, *starts[0].distractors)
        # A device's physics is not exact to the bit anyway, and many rooms take long to rebuild.
        rebuilt = self.device == "cpu" or cast != self._cast
        if rebuilt:
            self._cast = cast
            scene.objs.clear()  # what the start before brought along
            scene.obj_names = [BY_NAME[name].model for name in cast]
            drawn = type(scene).objects_excluded_from_greenscreening
            scene.objects_excluded_from_greenscreening = [*drawn, *scene.obj_names[2:]]
        positions = np.stack([start.positions for start in starts])
        quaternions = np.stack([start.quaternions for start in starts])
        device = scene.device
        scene.xyz_configs = torch.tensor(positions, dtype=torch.float32, device=device)
        scene.quat_configs = torch.tensor(quaternions, dtype=torch.float32, device=device)
        # An id names one of the positions and one of the quaternions: here the same of both.
        ids = torch.arange(self.count, device=device) * (self.count + 1)
        with torch.inference_mode():
            seen, info = scene.reset(seed=0, options={"episode_id": ids, "reconfigure": rebuilt})
            self._base = _rows(scene.agent.robot.pose.raw_pose)[0]
            self._camera = self._find_camera()
            self._origin = self._object_poses()[..., :3].copy()
            self._picked = [False] * self.count
            if self.count > 1:
                self._judge_each()
                info = scene.get_info()
            return self._observe(info, seen["sensor_data"])

    def step(self, action: FloatArray, render: bool = True) -> Observation:
        """Execute one action (7,) for 0.2 s and look.

        Args:
            action: `conventions.ACTION_NAMES`: metres, Euler XYZ radians, gripper +1 open, -1
                closed.
            render: whether a picture is needed; without it `Observation.image` is None.
        """
        return self.step_all(np.asarray(action)[None], render)[0]

    def step_all(self, actions: FloatArray, render: bool = True) -> list[Observation]:
        """`step` of `count` episodes, actions (count, 7)."""
        import torch

        actions = np.asarray(actions, np.float32)
        if actions.shape != (self.count, 7) or not np.isfinite(actions).all():
            raise ValueError(f"not an action of 7 finite numbers: {actions!r}")
        scene = self._scene
        with torch.inference_mode():  # a tenth less for the many small operations
            self._advance(torch.from_numpy(actions))
            info = scene.get_info()
            return self._observe(info, scene._get_obs_sensor_data() if render else None)

    def _advance(self, actions: Any) -> None:
        """Physics of one control step under actions (count, 7).

        ManiSkill's own loop calls hooks around each of its 100 physics steps. These tasks leave
        them empty, and a controller uses its own only to interpolate, which this arm's do not. On
        a CUDA device it also moves numbers there and back, which is left to it.
        """
        scene = self._scene
        if self.device == "cuda":
            scene._step_action(actions)
            return
        scene.agent.set_action(actions)
        for _ in range(scene._sim_steps_per_control):
            scene.scene.step()

    def _judge_each(self) -> None:
        """Give the success rule each episode's own height of the source, not the first one's.

        The rule reads the third of three numbers, the box's extent along z as it lies at the start.
        The target lies flat in every start, so that the first one's serves all.
        """
        from mani_skill.utils.geometry import rotation_conversions

        scene = self._scene
        name = scene.source_obj_name
        turns = rotation_conversions.quaternion_to_matrix(scene.objs[name].pose.q)
        box = scene.episode_model_bbox_sizes[name].float()
        scene.episode_source_obj_bbox_world = (turns @ box[..., None])[..., 0].T

    def close(self) -> None:
        """Release the scene."""
        self._scene.close()

    def _observe(self, info: dict[str, Any], sensors: Any) -> list[Observation]:
        scene = self._scene
        arm = scene.agent.controller.controllers["arm"]
        reading = _Reading(
            target=_rows(arm._target_pose.raw_pose),
            link=_rows(arm.ee_pose_at_base.raw_pose),
            fingers=_rows(scene.agent.robot.qpos)[:, -2:].mean(axis=1),
            objects=self._object_poses(),
            # ManiSkill's own grasp flag is latched over the episode; its counter is not.
            grasped=_rows(scene.consecutive_grasp) > 0,
            on_target=_rows(info["src_on_target"]) > 0,
            success=_rows(info["success"]) > 0,
            images=None if sensors is None else sensors[CAMERA]["rgb"].cpu().numpy(),
        )
        return [self._observation(reading, row) for row in range(self.count)]

    def _observation(self, reading: _Reading, row: int) -> Observation:
        target, link = reading.target[row], reading.link[row]
        pose = poses.from_link(link[:3], link[3:])
        opening = (reading.fingers[row] - FINGER_CLOSED) / (FINGER_OPEN - FINGER_CLOSED)
        image = None if reading.images is None else reading.images[row]
        return Observation(
            image=None if image is None else np.array(image, np.uint8),
            state=np.append(pose, np.clip(opening, 0, 1)).astype(np.float32),
            controller=poses.from_link(target[:3], target[3:]).astype(np.float32),
            environment_state=self._environment_state(reading, row, pose),
            instruction=self._instructions[row],
        )

    def _environment_state(self, reading: _Reading, row: int, pose: Array) -> FloatArray:
        world = reading.objects[row]
        base = poses.to_base(world[:2, :3], world[:2, 3:], self._base)
        tip = pose[:3] + TIP * poses.approach(pose)
        uv = self.camera().project(np.stack([base[0, :3], base[1, :3], tip]))
        gone = world[:, :3] - self._origin[row]
        moved = np.linalg.norm(gone[:, :2], axis=1)
        astray = moved[1:].max()
        self._picked[row] |= bool((gone[2:, 2] > PICKED).any())
        flags = [
            bool(reading.grasped[row]),
            bool(reading.on_target[row]),
            self._picked[row] or (astray > MOVED and astray > moved[0]),
            bool(reading.success[row]) and not self._picked[row],
        ]
        parts = [base[0], uv[0], base[1], uv[1], tip, uv[2], flags, [-1.0]]
        return np.concatenate(parts).astype(np.float32)

    def _object_poses(self) -> Array:
        """World poses (count, 2 + n, 7) of source, target and distractors."""
        models = [BY_NAME[name].model for name in self._cast]
        of_models = [_rows(self._scene.objs[model].pose.raw_pose) for model in models]
        return np.stack(of_models, axis=1)

    def _find_camera(self) -> Camera:
        params = self._scene.get_sensor_params()[CAMERA]
        height, width = self._size()
        intrinsic = _rows(params["intrinsic_cv"])[0] / np.array([[width], [height], [1.0]])
        world = np.vstack([_rows(params["extrinsic_cv"])[0], [0.0, 0.0, 0.0, 1.0]])
        base = np.eye(4)
        base[:3, :3] = poses.matrix_from_quaternion(self._base[3:])
        base[:3, 3] = self._base[:3]
        return Camera(intrinsic, (world @ base)[:3])

    def _size(self) -> tuple[int, int]:
        config = self._scene._sensor_configs[CAMERA]
        return config.height, config.width


_current: dict[tuple[str, Pack, Size, int, Device], Environment] = {}


def reuse(
    task: str, assets: Pack, image_size: Size, count: int = 1, device: Device = "cpu"
) -> Environment:
    """This process's environment; another one is closed first, as a scene takes 0.5 GB."""
    key = (task, assets, image_size, count, device)
    if key not in _current:
        while _current:
            _current.popitem()[1].close()
        _current[key] = Environment(task, assets, image_size, count, device)
    return _current[key]


def _make(env_id: str, assets: Pack, image_size: Size, count: int, device: Device) -> Any:
    from dualvla.simulation.assets import pack

    root = pack.activate(assets)
    import torch

    if device == "cpu":
        torch.set_num_threads(1)  # one process an environment: threads would only fight
    import gymnasium
    import mani_skill.envs  # noqa: F401  registers the tasks
    from mani_skill.envs.tasks.digital_twins.base_env import BaseDigitalTwinEnv

    logging.getLogger("mani_skill ").setLevel(logging.ERROR)  # the blank is its own
    gc.collect()
    gc.freeze()
    # These two live on the class: a second environment in this process would inherit the first
    # one's background photo and its list of things drawn over it.
    BaseDigitalTwinEnv._rgb_overlay_images = {}
    BaseDigitalTwinEnv._objects_to_remove_from_greenscreen = []
    width, height = (image_size, image_size) if isinstance(image_size, int) else image_size
    scale = np.array([[width / NATIVE_SIZE[0]], [height / NATIVE_SIZE[1]], [1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ManiSkill's tables are slow to convert; they are tiny
        environment = gymnasium.make(
            env_id,
            obs_mode="rgb+segmentation",
            render_backend="cpu" if device == "cpu" else "gpu",
            sim_backend="physx_cpu" if device == "cpu" else "physx_cuda",
            num_envs=count,
            sensor_configs={
                "width": width,
                "height": height,
                "intrinsic": np.array(NATIVE_INTRINSIC) * scale,
            },
        )
    scene: Any = environment.unwrapped
    # The cubes have a table of their own, but any task may show them as distractors.
    for name in pack.INFOS:
        scene.model_db = files.read_json(root / pack.BRIDGE / "custom" / name) | scene.model_db
    return scene


def _rows(tensor: Any) -> Array:
    return tensor.cpu().numpy().astype(np.float64)
