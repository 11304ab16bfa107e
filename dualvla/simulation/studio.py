"""The table or the sink in front of the camera: arranges a layout, takes the picture, labels it.

Visible shares come from the segmentation: an object's pixels against its projected convex outline,
times the share of that outline the object fills when nothing covers it (measured once on loading).
That costs no second picture; a hollow or bent object is off by some percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualvla.interface import ImageArray
from dualvla.objects import BY_MODEL, BY_NAME
from dualvla.simulation import bridge
from dualvla.simulation.bridge import FAR, TABLE_TOP, Floor, matrix, pieces, put
from dualvla.simulation.camera import Camera
from dualvla.simulation.environments import CAMERA, FINGER_CLOSED, FINGER_OPEN, TIP, Pack
from dualvla.simulation.layouts import Layout
from dualvla.simulation.shapes import Array, Setting, Shape, apply, pose, turn

FOLDED = (0.0, -1.8, 1.5, 0.0, 0.8, 0.0)  # arm joints that leave the picture free
FINGERS = ("left_finger_link", "right_finger_link")


@dataclass(frozen=True)
class Label:
    """Where one thing of a scene is."""

    object: str  # one of objects.SLOTS
    u: float  # projected centre, share of the image width; may lie outside [0, 1]
    v: float  # share of the height
    x: float  # centre in the robot base frame, metres; of the gripper: between the finger tips
    y: float
    z: float
    yaw: float  # of the long axis (x where none is longer) in the base frame, radians
    visible: float  # share of its outline that the picture shows; 0 if the centre is outside


class Studio:
    """The table or the sink with all its objects, ready to be arranged and photographed."""

    def __init__(self, name: str, assets: Pack, image_size: int) -> None:
        self.environment = bridge.load(name, assets, image_size)
        self._size = image_size
        self._robot = self.environment.agent.robot
        self._links = self._robot.links_map
        self._camera = self._find_camera()
        self._solver = self._robot._objs[0].create_pinocchio_model()
        self._ee_index = self._robot.links.index(self._links["ee_gripper_link"])
        self.setting = self._describe(name)
        self._outline: dict[str, float] = {}  # none known yet while they are measured
        self._outline = self._calibrate()

    def joints(self, layout: Layout) -> Array | None:
        """Joint values (8,) that put the gripper where the layout wants it; None out of reach."""
        arm = layout.arm
        if arm.joints is not None:
            return np.append(arm.joints, [arm.finger, arm.finger])
        assert arm.tip is not None
        assert arm.rotation is not None
        import sapien

        inverse = np.linalg.inv(self.setting.base)
        goal = inverse @ pose(arm.rotation, arm.tip - TIP * arm.rotation[:, 0])
        # The waist looks at the tip, so that the solver starts on the branch a robot would take.
        first = np.append(self.setting.rest, [arm.finger, arm.finger])
        first[0] = np.arctan2(goal[1, 3], goal[0, 3])
        found, done, _ = self._solver.compute_inverse_kinematics(
            self._ee_index,
            sapien.Pose(goal),
            initial_qpos=first,
            active_qmask=np.array([1, 1, 1, 1, 1, 1, 0, 0]),
            max_iterations=100,
        )
        found = np.append(found[:6], [arm.finger, arm.finger])
        limits = self._robot._objs[0].get_qlimits()[:6]
        found[:6] = (found[:6] + np.pi) % (2 * np.pi) - np.pi
        inside = np.all((found[:6] >= limits[:, 0]) & (found[:6] <= limits[:, 1]))
        return found if done and inside else None

    def shoot(self, layout: Layout, joints: Array) -> tuple[ImageArray, tuple[Label, ...], float]:
        """Arrange the scene, take the picture and label it."""
        self._arrange(layout.poses, joints)
        image, segmentation = self._look()
        labels = []
        places = dict(layout.poses)
        if self.setting.basket is not None:
            places["basket"] = self.setting.basket
        for name in BY_NAME:
            if name in places:
                visible = self._visible(name, segmentation, [places[name]])
                labels.append(self._label(name, places[name], visible))
        fingers = [matrix(self._links[link]) for link in FINGERS]
        visible = self._visible("gripper", segmentation, fingers)
        gripper = matrix(self._links["ee_gripper_link"])
        gripper[:3, 3] += TIP * gripper[:3, 0]
        labels.append(self._label("gripper", gripper, visible))
        opening = (joints[6] - FINGER_CLOSED) / (FINGER_OPEN - FINGER_CLOSED)
        return image, tuple(labels), float(np.clip(opening, 0, 1))

    def _arrange(self, poses: dict[str, Array], joints: Array) -> None:
        import torch

        for order, (model, actor) in enumerate(self.environment.objs.items()):
            name = BY_MODEL[model].name
            waiting = pose(np.eye(3), np.array([FAR, order, 0.0]))
            default = self.setting.basket if name == "basket" else waiting
            put(actor, poses.get(name, waiting if default is None else default))
        self._robot.set_qpos(torch.tensor(joints[None], dtype=torch.float32))

    def _look(self) -> tuple[ImageArray, Any]:
        """The picture and its segmentation (size, size)."""
        sensors = self.environment._get_obs_sensor_data()[CAMERA]
        image = np.ascontiguousarray(sensors["rgb"][0].cpu().numpy(), dtype=np.uint8)
        return image, sensors["segmentation"][0, ..., 0].cpu().numpy()

    def _label(self, name: str, matrix: Array, visible: float) -> Label:
        place = np.linalg.inv(self.setting.base) @ matrix
        uv = self._camera.project(place[:3, 3])
        if np.any(uv < 0) or np.any(uv > 1):
            visible = 0.0  # a rim at the edge of the picture is nothing to point at
        # The gripper's yaw is that of the line across its fingers, less a right angle: 0 at rest.
        axis = place[:2, 0] if name != "gripper" else place[[1, 0], 1] * [1, -1]
        yaw = np.arctan2(axis[1], axis[0])
        numbers = np.round([*uv, *place[:3, 3], yaw, visible], 6)
        return Label(name, *(float(number) for number in numbers))

    def _visible(self, name: str, segmentation: Any, places: Sequence[Array]) -> float:
        """Pixels shown of an object's outline, against what it shows alone."""
        from scipy.spatial import ConvexHull

        hulls = []
        for vertices, place in zip(self._vertices(name), places, strict=True):
            uv = self.setting.project(apply(place, vertices))
            hulls.append(ConvexHull(uv * self._size))
        if name == "basket":  # a photo, not an object: what nothing drawn covers
            return _uncovered(hulls[0], np.isin(segmentation, self._drawn()))
        expected = sum(float(hull.volume) for hull in hulls) * self._outline.get(name, 1.0)
        pixels = int(np.isin(segmentation, self._ids(name)).sum())
        return min(1.0, pixels / max(expected, 1.0))

    def _vertices(self, name: str) -> list[Array]:
        if name == "gripper":
            return [np.concatenate(pieces(self._links[link])) for link in FINGERS]
        return [self.setting.shapes[name].vertices]

    def _ids(self, name: str) -> list[int]:
        if name == "gripper":
            return [int(self._links[link].per_scene_id[0]) for link in FINGERS]
        return [int(self.environment.objs[BY_NAME[name].model].per_scene_id[0])]

    def _drawn(self) -> Any:
        return self.environment._segmentation_ids_to_keep.cpu().numpy()

    def _calibrate(self) -> dict[str, float]:
        """Share of its convex outline that each object shows when nothing covers it."""
        folded = np.array([*FOLDED, FINGER_OPEN, FINGER_OPEN])
        centre = np.array([-0.16, 0.0, TABLE_TOP + 0.1])
        shares: dict[str, float] = {}
        for name in self.setting.shapes:
            if name == "basket":
                continue
            seen = []
            for yaw in np.arange(4) * np.pi / 4:
                place = pose(turn(2, float(yaw)), centre)
                self._arrange({name: place}, folded)
                seen.append(self._alone(name, [place]))
            shares[name] = float(np.mean(seen))
        self._arrange({}, np.append(self.setting.rest, [FINGER_OPEN, FINGER_OPEN]))
        shares["gripper"] = self._alone("gripper", [matrix(self._links[k]) for k in FINGERS])
        return shares

    def _alone(self, name: str, places: Sequence[Array]) -> float:
        share = self._visible(name, self._look()[1], places)
        if share <= 0.1:
            raise RuntimeError(f"{name} alone in the scene is not drawn: wrong meshes?")
        return share

    def _find_camera(self) -> Camera:
        """The camera in the robot base frame, its intrinsics scaled to an image of size 1."""
        params = self.environment.get_sensor_params()[CAMERA]
        intrinsic = params["intrinsic_cv"][0].cpu().numpy().astype(float)
        world = np.eye(4)
        world[:3] = params["extrinsic_cv"][0].cpu().numpy()
        size = np.array([[self._size], [self._size], [1.0]])
        return Camera(intrinsic / size, (world @ matrix(self._robot))[:3])

    def _describe(self, name: str) -> Setting:
        environment = self.environment
        base = matrix(self._robot)
        inverse = np.linalg.inv(base)
        shapes = {}
        for model, actor in environment.objs.items():
            thing = BY_MODEL[model].name
            rolls = thing == "eggplant"
            settled = name == "table" and not rolls
            rest = matrix(actor)[:3, :3] if settled else np.eye(3)
            shapes[thing] = Shape(tuple(pieces(actor)), rest, rolls)
        basket = environment.objs.get(BY_NAME["basket"].model)
        fingers = np.concatenate(pieces(self._links[FINGERS[0]]))
        return Setting(
            name=name,
            shapes=shapes,
            floor=Floor(environment),
            project=lambda points: self._camera.project(apply(inverse, points)),
            base=base,
            basket=None if basket is None else matrix(basket),
            # Its own y points from finger to finger; the pad is its lowest part there.
            finger_inner=-float(fingers[fingers[:, 0] > 0.02][:, 1].min()),
            rest=self._robot.qpos[0, :6].cpu().numpy().astype(float),
        )


def _uncovered(hull: Any, covered: Any) -> float:
    """Share of the pixels inside an outline that are not covered."""
    rows, columns = np.indices(covered.shape)
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    inside = np.all(pixels @ hull.equations[:, :2].T + hull.equations[:, 2] <= 0, axis=1)
    return float(1 - covered.ravel()[inside].mean()) if inside.any() else 0.0
