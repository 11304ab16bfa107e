"""The four WidowX tasks of SimplerEnv as one small environment class.

ManiSkill's task classes run unchanged: only the table of start poses is replaced before a reset,
the list of objects where a start brings distractors along, and the camera's size. Three of its
habits cost time or truth and are handled here:

* A reset is bit-exact only if the scene is rebuilt. That takes 0.1 s, because what the interpreter
  loaded is frozen out of the garbage collector, which otherwise needs twice that on every rebuild.
* A step calls hooks around each physics step that do nothing here; they are left out.
* A step renders a picture, twice as expensive as it needs to be where only decision steps look.
  `step(render=False)` advances physics and evaluates the task, and leaves the picture out.

Nothing is imported from ManiSkill until an environment is made, so the task table is free to read.
"""

import gc
import logging
import warnings
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


class Environment:
    """One task in this process, reused over episodes.

    Args:
        task: a key of `TASKS`.
        assets: asset pack.
        image_size: of the pictures; the native 4:3 view is squashed into any other shape.

    Raises:
        UserError: an unknown task, or a pack that is not there.
    """

    def __init__(self, task: str, assets: Pack, image_size: Size) -> None:
        if task not in TASKS:
            raise UserError(f"no such task: {task}", fix=f"one of {', '.join(TASKS)}")
        self.spec = TASKS[task]
        self.max_steps = self.spec.max_steps
        self._scene = _make(self.spec.env_id, assets, image_size)
        self._camera: Camera | None = None
        self._cast: tuple[str, ...] = (self.spec.source, self.spec.target)
        self._instruction = self.spec.instruction
        self._origin: Array = np.zeros((2, 3))
        self._picked = False  # whether a distractor was, in this episode
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
        import torch

        scene = self._scene
        self._instruction = start.instruction or self.spec.instruction
        self._cast = (self.spec.source, self.spec.target, *start.distractors)
        scene.objs.clear()  # what the start before brought along
        scene.obj_names = [BY_NAME[name].model for name in self._cast]
        drawn = type(scene).objects_excluded_from_greenscreening
        scene.objects_excluded_from_greenscreening = [*drawn, *scene.obj_names[2:]]
        scene.xyz_configs = torch.tensor(start.positions[None], dtype=torch.float32)
        scene.quat_configs = torch.tensor(start.quaternions[None], dtype=torch.float32)
        with torch.inference_mode():
            seen, info = scene.reset(
                seed=0, options={"episode_id": torch.tensor([0]), "reconfigure": True}
            )
            self._base = _numbers(scene.agent.robot.pose.raw_pose)
            self._camera = self._find_camera()
            self._origin = self._object_poses()[:, :3].copy()
            self._picked = False
            return self._observe(info, seen["sensor_data"])

    def step(self, action: FloatArray, render: bool = True) -> Observation:
        """Execute one action (7,) for 0.2 s and look.

        Args:
            action: `conventions.ACTION_NAMES`: metres, Euler XYZ radians, gripper +1 open, -1
                closed.
            render: whether a picture is needed; without it `Observation.image` is None.
        """
        import torch

        action = np.asarray(action, np.float32)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f"not an action of 7 finite numbers: {action!r}")
        scene = self._scene
        with torch.inference_mode():  # a tenth less for the many small operations
            self._advance(torch.from_numpy(action[None]))
            info = scene.get_info()
            return self._observe(info, scene._get_obs_sensor_data() if render else None)

    def _advance(self, action: Any) -> None:
        """Physics of one control step under an action (1, 7).

        ManiSkill's own loop calls hooks around each of its 100 physics steps. These tasks leave
        them empty, and a controller uses its own only to interpolate, which this arm's do not.
        """
        scene = self._scene
        scene.agent.set_action(action)
        for _ in range(scene._sim_steps_per_control):
            scene.scene.step()

    def close(self) -> None:
        """Release the scene."""
        self._scene.close()

    def _observe(self, info: dict[str, Any], sensors: Any) -> Observation:
        arm = self._scene.agent.controller.controllers["arm"]
        target = _numbers(arm._target_pose.raw_pose)
        link = _numbers(arm.ee_pose_at_base.raw_pose)
        pose = poses.from_link(link[:3], link[3:])
        fingers = _numbers(self._scene.agent.robot.qpos)[-2:].mean()
        opening = np.clip((fingers - FINGER_CLOSED) / (FINGER_OPEN - FINGER_CLOSED), 0, 1)
        image = None if sensors is None else _image(sensors)
        return Observation(
            image=image,
            state=np.append(pose, opening).astype(np.float32),
            controller=poses.from_link(target[:3], target[3:]).astype(np.float32),
            environment_state=self._environment_state(info, pose),
            instruction=self._instruction,
        )

    def _environment_state(self, info: dict[str, Any], pose: Array) -> FloatArray:
        world = self._object_poses()
        base = poses.to_base(world[:2, :3], world[:2, 3:], self._base)
        tip = pose[:3] + TIP * poses.approach(pose)
        uv = self.camera().project(np.stack([base[0, :3], base[1, :3], tip]))
        moved = np.linalg.norm((world[:, :3] - self._origin)[:, :2], axis=1)
        astray = moved[1:].max()
        self._picked |= bool(((world[:, :3] - self._origin)[2:, 2] > PICKED).any())
        # ManiSkill's own grasp flag is latched over the episode; its counter is not.
        flags = [
            bool(self._scene.consecutive_grasp[0] > 0),
            bool(info["src_on_target"][0]),
            self._picked or (astray > MOVED and astray > moved[0]),
            bool(info["success"][0]) and not self._picked,
        ]
        parts = [base[0], uv[0], base[1], uv[1], tip, uv[2], flags, [-1.0]]
        return np.concatenate(parts).astype(np.float32)

    def _object_poses(self) -> Array:
        """World poses (2 + n, 7) of source, target and distractors."""
        models = [BY_NAME[name].model for name in self._cast]
        return np.stack([_numbers(self._scene.objs[model].pose.raw_pose) for model in models])

    def _find_camera(self) -> Camera:
        params = self._scene.get_sensor_params()[CAMERA]
        height, width = self._size()
        intrinsic = _numbers(params["intrinsic_cv"]) / np.array([[width], [height], [1.0]])
        world = np.vstack([_numbers(params["extrinsic_cv"]), [0.0, 0.0, 0.0, 1.0]])
        base = np.eye(4)
        base[:3, :3] = poses.matrix_from_quaternion(self._base[3:])
        base[:3, 3] = self._base[:3]
        return Camera(intrinsic, (world @ base)[:3])

    def _size(self) -> tuple[int, int]:
        config = self._scene._sensor_configs[CAMERA]
        return config.height, config.width


_current: dict[tuple[str, Pack, Size], Environment] = {}


def reuse(task: str, assets: Pack, image_size: Size) -> Environment:
    """This process's environment; another task's is closed first, as a scene takes 0.5 GB."""
    key = (task, assets, image_size)
    if key not in _current:
        while _current:
            _current.popitem()[1].close()
        _current[key] = Environment(task, assets, image_size)
    return _current[key]


def _make(env_id: str, assets: Pack, image_size: Size) -> Any:
    from dualvla.simulation.assets import pack

    root = pack.activate(assets)
    import torch

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
            render_backend="cpu",
            sim_backend="cpu",
            num_envs=1,
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


def _numbers(tensor: Any) -> Array:
    return tensor[0].cpu().numpy().astype(np.float64)


def _image(sensors: Any) -> ImageArray:
    return np.ascontiguousarray(sensors[CAMERA]["rgb"][0].cpu().numpy(), dtype=np.uint8)
