"""The arm: a WidowX 250 6-DOF as URDF, SRDF and meshes of boxes, discs and prisms.

Kinematics, limits and masses are the real arm's, since a policy's actions and the camera depend on
them. The shapes are simplified: each link is a few solids about as large as the real part. Physics
uses boxes alone, which give stable, level contacts between the fingers and what they hold, at the
price of a forearm that is a little more angular than the real one.
"""

from dataclasses import dataclass, field

import numpy as np

from dualvla.simulation.assets.solids import Solid, bounds, box, disc, prism

NAME = "wx250s"
MESHES = "meshes_wx250s"
FRAME_INERTIA = 0.001  # kg m^2 of the massless frames, as in the benchmark's model

Box = tuple[tuple[float, float, float], tuple[float, float, float]]  # low, high corner; metres


@dataclass(frozen=True)
class Link:
    """A rigid part; without solids it is only a frame."""

    name: str
    mass: float = 0.001
    visual: tuple[Solid, ...] = ()
    collision: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Joint:
    """How a link hangs on its parent; every frame is parallel to it at zero."""

    name: str
    parent: str
    child: str
    xyz: tuple[float, float, float]
    axis: tuple[int, int, int] = (1, 0, 0)
    limits: tuple[float, float] | None = None  # rad or m; None: fixed
    kind: str = field(default="revolute")
    effort: float = 10.0


JOINTS = (
    Joint("waist", "base_link", "shoulder_link", (0, 0, 0.072), (0, 0, 1), (-np.pi, np.pi)),
    Joint("shoulder", "shoulder_link", "upper_arm_link", (0, 0, 0.03865), (0, 1, 0),
          (-1.8849556, 1.9896753), effort=20.0),
    Joint("elbow", "upper_arm_link", "upper_forearm_link", (0.04975, 0, 0.25), (0, 1, 0),
          (-2.1467550, 1.6057029), effort=15.0),
    Joint("forearm_roll", "upper_forearm_link", "lower_forearm_link", (0.175, 0, 0), (1, 0, 0),
          (-np.pi, np.pi), effort=2.0),
    Joint("wrist_angle", "lower_forearm_link", "wrist_link", (0.075, 0, 0), (0, 1, 0),
          (-1.7453293, 2.1467550), effort=5.0),
    Joint("wrist_rotate", "wrist_link", "gripper_link", (0.065, 0, 0), (1, 0, 0),
          (-np.pi, np.pi), effort=1.0),
    Joint("ee_arm", "gripper_link", "ee_arm_link", (0.043, 0, 0)),
    Joint("gripper", "ee_arm_link", "gripper_prop_link", (0.0055, 0, 0)),
    Joint("gripper_bar", "ee_arm_link", "gripper_bar_link", (0, 0, 0)),
    Joint("ee_bar", "gripper_bar_link", "fingers_link", (0.023, 0, 0)),
    Joint("left_finger", "fingers_link", "left_finger_link", (0, 0, 0), (0, 1, 0),
          (0.015, 0.037), "prismatic", 5.0),
    Joint("right_finger", "fingers_link", "right_finger_link", (0, 0, 0), (0, -1, 0),
          (0.015, 0.037), "prismatic", 5.0),
    Joint("ee_gripper", "fingers_link", "ee_gripper_link", (0.027575, 0, 0)),
)  # fmt: skip

# Pairs that touch by construction.
APART = (
    ("base_link", "upper_arm_link"),
    ("gripper_link", "left_finger_link"),
    ("gripper_link", "right_finger_link"),
    ("gripper_bar_link", "gripper_link"),
    ("gripper_bar_link", "left_finger_link"),
    ("gripper_bar_link", "right_finger_link"),
    ("left_finger_link", "right_finger_link"),
)


def links() -> tuple[Link, ...]:
    """All links; coordinates are the link's own, metres, x along the arm."""
    return (
        _base(),
        _shoulder(),
        _upper_arm(),
        _upper_forearm(),
        _lower_forearm(),
        _wrist(),
        _gripper(),
        Link("ee_arm_link"),
        Link("gripper_prop_link", 0.00434, (disc((0, 0, 0), 0.017, "x", 0.0025, "charcoal"),)),
        _bar(),
        Link("fingers_link"),
        _finger(left=True),
        _finger(left=False),
        Link("ee_gripper_link"),
    )


def _base() -> Link:
    motor = ((-0.045, -0.036, 0.004), (0.045, 0.036, 0.050))
    tail = ((-0.157, -0.040, 0.0), (-0.040, 0.040, 0.012))
    look = (
        box(*tail, "black"),
        disc((0, 0, 0.003), 0.068, "z", 0.003, "black"),
        box(*motor, "charcoal"),
        disc((0, 0, 0.058), 0.050, "z", 0.010, "black"),
    )
    return Link("base_link", 0.538736, look, (motor, tail))


def _shoulder() -> Link:
    motor = ((-0.018, -0.026, 0.006), (0.018, 0.026, 0.052))
    look = (
        disc((0, 0, 0.002), 0.051, "z", 0.004, "black"),
        box(*motor, "charcoal"),
        prism([(-0.024, 0.006), (0.024, 0.006), (0.014, 0.0495), (-0.014, 0.0495)], "y",
              -0.034, -0.028, "black"),
        prism([(-0.024, 0.006), (0.024, 0.006), (0.014, 0.0495), (-0.014, 0.0495)], "y",
              0.028, 0.034, "black"),
    )  # fmt: skip
    return Link("shoulder_link", 0.480879, look, (((-0.024, -0.034, 0.0), (0.024, 0.034, 0.045)),))


def _upper_arm() -> Link:
    post = ((-0.010, -0.010, 0.010), (0.010, 0.010, 0.236))
    elbow = ((-0.010, -0.026, 0.232), (0.061, 0.026, 0.2684))
    look = (
        box((-0.0145, -0.014, -0.0145), (0.0145, 0.014, 0.042), "charcoal"),
        disc((0, 0, 0), 0.0145, "y", 0.044, "charcoal"),
        box(*post, "black"),
        box(*elbow, "charcoal"),
        disc((0.04975, 0, 0.25), 0.014, "y", 0.054, "black"),
    )
    return Link("upper_arm_link", 0.430811, look, (post, elbow))


def _upper_forearm() -> Link:
    rear = ((-0.0144, -0.014, -0.0144), (0.048, 0.014, 0.0144))
    tube = ((0.046, -0.010, -0.010), (0.160, 0.010, 0.010))
    look = (
        box(*rear, "charcoal"),
        box(*tube, "black"),
        box((0.138, -0.014, -0.014), (0.168, 0.014, 0.014), "charcoal"),
        disc((0.170, 0, 0), 0.0212, "x", 0.005, "black"),
    )
    return Link("upper_forearm_link", 0.234589, look, (rear, tube))


def _lower_forearm() -> Link:
    motor = ((0.004, -0.035, -0.0174), (0.046, 0.015, 0.0174))
    front = ((0.040, -0.017, -0.0174), (0.070, 0.017, 0.0174))
    look = (
        disc((0.001, 0, 0), 0.0245, "x", 0.005, "black"),
        box(*motor, "charcoal"),
        box(*front, "charcoal"),
        box((0.055, -0.022, -0.012), (0.084, -0.017, 0.012), "black"),
        box((0.055, 0.017, -0.012), (0.084, 0.022, 0.012), "black"),
        disc((0.075, 0, 0), 0.0124, "y", 0.0235, "black"),
    )
    return Link("lower_forearm_link", 0.220991, look, (motor, front))


def _wrist() -> Link:
    motor = ((0.020, -0.0142, -0.0112), (0.060, 0.0142, 0.0352))
    yoke = ((-0.003, -0.022, -0.0112), (0.050, 0.022, 0.0112))
    look = (
        box((-0.010, -0.030, -0.010), (0.050, -0.0242, 0.0112), "black"),
        box((-0.010, 0.0242, -0.010), (0.050, 0.030, 0.0112), "black"),
        box((0.040, -0.030, -0.0108), (0.052, 0.030, 0.0110), "black"),
        box(*motor, "charcoal"),
        disc((0.0625, 0, 0), 0.020, "x", 0.0025, "black"),
    )
    return Link("wrist_link", 0.084957, look, (motor, yoke))


def _gripper() -> Link:
    motor = ((0.004, -0.0142, -0.0112), (0.043, 0.0142, 0.0352))
    look = (disc((0.0025, 0, 0), 0.020, "x", 0.0025, "black"), box(*motor, "charcoal"))
    return Link("gripper_link", 0.072885, look, (motor,))


def _bar() -> Link:
    plate = [(-0.052, -0.006), (-0.021, -0.0145), (0.021, -0.0145), (0.052, -0.006)]
    plate += [(0.052, 0.006), (0.021, 0.0358), (-0.021, 0.0358), (-0.052, 0.006)]
    rail = ((0.020, -0.0503, -0.0056), (0.0286, 0.0503, 0.0056))
    look = [prism(plate, "x", -0.0006, 0.0034, "black"), box(*rail, "charcoal")]
    for side in (-1, 1):
        look.append(disc((0.0115, side * 0.0455, 0), 0.0048, "x", 0.009, "black", sides=16))
        look.append(disc((0.0243, side * 0.0455, 0), 0.0068, "x", 0.0052, "black", sides=16))
    top = ((-0.0006, -0.052, -0.0145), (0.004, 0.052, 0.0300))
    return Link("gripper_bar_link", 0.034199, tuple(look), (top, rail))


def _finger(*, left: bool) -> Link:
    # The pad's face is 9 mm inside the link's origin: 12 mm apart closed, 56 mm open. The tip is
    # 43.2 mm ahead of the slide, which is 15.6 mm ahead of the end effector's frame.
    side = 1 if left else -1
    inner, tip = -0.0090, 0.0432
    blade = [
        (0.008, inner),
        (tip, inner),
        (tip, -0.0059),
        (0.0357, 0.0004),
        (0.012, 0.0048),
        (0.008, 0.005),
    ]
    slide = ((-0.012, inner, -0.0145), (0.012, 0.005, 0.0145))
    solids = [
        prism(blade, "z", -0.0135, 0.0135, "black"),
        box((-0.0120, -0.005, -0.0100), (-0.002, 0.005, 0.0100), "charcoal"),
        box((-0.0047, inner, -0.0145), (0.012, 0.005, 0.0145), "charcoal"),
    ]
    parts = [slide, ((0.010, inner, -0.0135), (0.032, 0.002, 0.0135)),
             ((0.010, inner, -0.0130), (tip, -0.0040, 0.0130))]  # fmt: skip
    if not left:
        solids = [_mirrored(solid) for solid in solids]
        parts = [((a, -e, c), (d, -b, f)) for (a, b, c), (d, e, f) in parts]
    name = "left_finger_link" if side == 1 else "right_finger_link"
    return Link(name, 0.016246, tuple(solids), tuple(parts))


def _mirrored(solid: Solid) -> Solid:
    flip = np.array([1.0, -1.0, 1.0])
    return Solid(solid.vertices * flip, solid.faces[:, ::-1].copy(), solid.colour)


def urdf() -> str:
    """The arm as URDF text; meshes are looked for in `MESHES` beside it."""
    lines = ['<?xml version="1.0"?>', f'<robot name="{NAME}">']
    for link in links():
        lines += _link(link)
    for joint in JOINTS:
        lines += _joint(joint)
    return "\n".join([*lines, "</robot>", ""])


def srdf() -> str:
    """Pairs of links that never collide, as SRDF text."""
    pairs = [f'  <disable_collisions link1="{a}" link2="{b}" reason="Default"/>' for a, b in APART]
    return "\n".join([f'<robot name="{NAME}">', *pairs, "</robot>", ""])


def _link(link: Link) -> list[str]:
    lines = [f'  <link name="{link.name}">']
    if link.visual:
        mesh = f"{MESHES}/{link.name}.obj"
        lines.append(f'    <visual><geometry><mesh filename="{mesh}"/></geometry></visual>')
    for low, high in link.collision:
        centre, size = (np.add(low, high) / 2, np.subtract(high, low))
        lines.append(f'    <collision><origin xyz="{_numbers(centre)}" rpy="0 0 0"/>')
        lines.append(f'      <geometry><box size="{_numbers(size)}"/></geometry></collision>')
    centre, moments = _inertia(link)
    lines.append(f'    <inertial><origin xyz="{_numbers(centre)}" rpy="0 0 0"/>')
    lines.append(f'      <mass value="{link.mass}"/>')
    ixx, iyy, izz = (f"{value:.9f}" for value in moments)
    lines.append(f'      <inertia ixx="{ixx}" ixy="0" ixz="0" iyy="{iyy}" iyz="0" izz="{izz}"/>')
    return [*lines, "    </inertial>", "  </link>"]


def _inertia(link: Link) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and principal moments (3,) of a full block of the link's extent."""
    if not link.visual:
        return np.zeros(3), np.full(3, FRAME_INERTIA)
    low, high = bounds(link.visual)
    square = (high - low) ** 2
    return (low + high) / 2, link.mass / 12 * (square.sum() - square)


def _joint(joint: Joint) -> list[str]:
    kind = "fixed" if joint.limits is None else joint.kind
    lines = [
        f'  <joint name="{joint.name}" type="{kind}">',
        f'    <parent link="{joint.parent}"/><child link="{joint.child}"/>',
        f'    <origin xyz="{_numbers(joint.xyz)}" rpy="0 0 0"/>',
        f'    <axis xyz="{_numbers(joint.axis)}"/>',
    ]
    if joint.limits is not None:
        low, high = joint.limits
        speed = 1.0 if joint.kind == "prismatic" else np.pi
        limit = f'lower="{low:.7f}" upper="{high:.7f}" effort="{joint.effort}"'
        lines.append(f'    <limit {limit} velocity="{speed:.7f}"/>')
    return [*lines, "  </joint>"]


def _numbers(values: object) -> str:
    return " ".join(f"{float(v):.6f}" for v in np.asarray(values, np.float64))
