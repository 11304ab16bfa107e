"""Meshes and physics of the things on the table, by the folder name ManiSkill's tasks expect.

Sizes, origins and densities are those of the benchmark's own models, since its start heights and
success test assume them; the shapes are our own, from primitives. `bbox` is what the task files
call by that name: the size the success test uses, which is not always the mesh's extent.
"""

from dataclasses import dataclass

import numpy as np

from dualvla.simulation.assets import sink
from dualvla.simulation.assets.solids import Solid, box, ellipse, lathe, loft

Extent = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Model:
    """One thing: how it looks, what it is for the physics engine, and the task file's facts."""

    visual: tuple[Solid, ...]
    collision: tuple[Solid, ...]  # convex, apart
    bbox: Extent  # min, max; metres
    density: float  # kg / m^3
    info: str = "info_bridge_custom_v0.json"  # the task file that lists it


def build() -> dict[str, Model]:
    """All models by folder name."""
    return {
        "bridge_carrot_generated_modified": _carrot(),
        "bridge_plate_objaverse_larger": _plate(),
        "bridge_spoon_generated_modified": _spoon(),
        "table_cloth_generated_shorter": _cloth(),
        "baked_green_cube_3cm": _cube("green"),
        "baked_yellow_cube_3cm": _cube("yellow"),
        "eggplant": _eggplant(),
        "dummy_sink_target_plane": _target(),
        "sink": _sink(),
    }


def _box_of(half_x: float, half_y: float, half_z: float) -> Extent:
    return ((-half_x, -half_y, -half_z), (half_x, half_y, half_z))


def _tube(sections: list[tuple[float, float, float, float]], sides: int, colour: str) -> Solid:
    """A body along x through sections (x, half width, half height, height of the axis)."""
    return loft([ellipse(x, hy, hz, 0, z, sides=sides) for x, hy, hz, z in sections], colour)


def _wedges(profile: list[tuple[float, float]], count: int) -> list[Solid]:
    """A convex outline of (radius, z) turned about z, in `count` convex pieces."""
    gap = 0.002  # radians left between them, so that they share no corner
    pieces = []
    for k in range(count):
        rings = []
        for angle in (2 * np.pi * k / count + gap, 2 * np.pi * (k + 1) / count - gap):
            rings.append([(r * np.cos(angle), r * np.sin(angle), z) for r, z in profile])
        pieces.append(loft(rings))
    return pieces


def _carrot() -> Model:
    # x, half width, half height; the underside is level where the carrot rests.
    level = -0.0178
    body = [
        (-0.0641, 0.0020, 0.0020, -0.0055),
        (-0.0600, 0.0042, 0.0042, -0.0060),
        (-0.0440, 0.0090, 0.0088, -0.0068),
        (-0.0200, 0.0130, 0.0126, level + 0.0126),
        (0.0040, 0.0160, 0.0155, level + 0.0155),
        (0.0260, 0.0156, 0.0152, level + 0.0152),
        (0.0370, 0.0120, 0.0118, -0.0025),
        (0.0425, 0.0060, 0.0060, -0.0010),
    ]
    root, hull = _tube(body, 24, "orange"), _tube(body, 12, "orange")
    leaves = [
        loft(
            [
                ellipse(0.0385, 0.0030, 0.0030, y * 0.25, 0.000, sides=10),
                ellipse(0.0460, 0.0042, 0.0046, y * 0.7, z * 0.45, sides=10),
                ellipse(0.0542, 0.0022, 0.0030, y, z, sides=10),
            ],
            "leaf",
        )
        for y, z in ((-0.0110, 0.0140), (0.0, 0.0200), (0.0095, 0.0150), (0.0, 0.0070))
    ]
    return Model((root, *leaves), (hull, leaves[1]), _box_of(0.0575, 0.016, 0.019), 700)


def _plate() -> Model:
    foot, slope, brim, edge = 0.0300, 0.0420, 0.0430, 0.0550
    floor, top = 0.0014, 0.0060
    dish = lathe(
        [
            (1e-5, 0.0),
            (foot + 0.004, 0.0),
            (edge - 0.003, top - 0.0022),
            (edge, top - 0.0008),
            (edge - 0.0006, top),
            (brim, top - 0.0004),
            (slope - 0.002, top - 0.0012),
            (foot, floor),
            (1e-5, floor),
        ],
        "plate",
    )
    # Only the eye needs the line round the dish's floor.
    line = [(foot - 0.0010, floor - 0.0004), (foot + 0.0014, floor + 0.0002)]
    line += [(foot + 0.0010, floor + 0.0011), (foot - 0.0010, floor + 0.0004)]
    bead = lathe(line, "ring", hollow=True)
    # A dish is not convex: a flat middle, and a ring of wedges which rise to the brim.
    middle = lathe([(1e-5, 0.0), (foot, 0.0), (foot, floor), (1e-5, floor)], sides=24)
    wedge = [(foot - 0.001, 0.0), (foot + 0.006, 0.0), (edge, top - 0.0022), (edge, top)]
    wedge += [(brim, top - 0.0002), (foot - 0.001, floor)]
    ring = _wedges(wedge, 16)
    return Model((dish, bead), (middle, *ring), _box_of(0.055, 0.055, 0.003), 1000)


def _spoon() -> Model:
    level = -0.0117
    # The grip is of even width with upright sides where it is held: two flat fingers on a tapered
    # round rod would touch it in two points, and the spoon would swing about them.
    grip = [
        (-0.0240, 0.0040, 0.0030, -0.0045),
        (-0.0110, 0.0084, 0.0092, level + 0.0092),
        (0.0000, 0.0106, 0.0116, level + 0.0116),
        (0.0480, 0.0108, 0.0120, level + 0.0120),
        (0.0600, 0.0094, 0.0098, 0.0005),
        (0.0672, 0.0036, 0.0040, 0.0010),
    ]
    handle, rod = _tube(grip, 20, "handle"), _tube(grip, 8, "handle")
    neck = loft(
        [
            ellipse(-0.032, 0.0045, 0.0016, 0, -0.0050, sides=12),
            ellipse(-0.018, 0.0042, 0.003, 0, -0.004, sides=12),
        ],
        "bowl",
    )
    # A bowl of revolution, stretched along the spoon; lifted towards its tip.
    top, depth = 0.0010, 0.0127
    outer = [(np.sin(a), top - depth * np.cos(a)) for a in np.linspace(0.02, np.pi / 2, 8)]
    inner = [(0.90 * np.sin(a), top - 0.80 * depth * np.cos(a)) for a in np.linspace(1.5, 0.02, 8)]
    stretch = np.array([0.0255, 0.0178, 1.0])
    shift = np.array([-0.0475, 0.0, 0.0])
    bowl = lathe([*outer, *inner], "bowl", sides=32)
    # Hollow for the physics too, or the spoon would be as heavy in front as behind.
    floor = lathe([*outer[:4], (1e-5, outer[3][1])], sides=12)
    side = [outer[3], outer[5], outer[7], inner[0], (outer[3][0] - 0.10, outer[3][1] + 0.0008)]
    bowl, floor, *sides = (
        Solid(part.vertices * stretch + shift, part.faces, "bowl")
        for part in (bowl, floor, *_wedges(side, 10))
    )
    return Model(
        (handle, neck, bowl), (rod, neck, floor, *sides), _box_of(0.07, 0.0173, 0.013021), 1200
    )


def _cloth() -> Model:
    # A towel folded once: two soft-edged layers with a hem along each.
    lower = _cushion(0.0500, -0.0050, 0.0002, "cloth")
    upper = _cushion(0.0488, -0.0002, 0.0050, "cloth")
    hems = [
        box(
            (side * 0.0400 - 0.0022, -0.0462, 0.0046),
            (side * 0.0400 + 0.0022, 0.0462, 0.0053),
            "hem",
        )
        for side in (-1, 1)
    ]
    whole = _cushion(0.0500, -0.0050, 0.0051, "cloth")
    return Model((lower, upper, *hems), (whole,), _box_of(0.05, 0.05, 0.005), 330)


def _cushion(half: float, low: float, high: float, colour: str) -> Solid:
    """A square slab with rounded corners and edges."""
    round_, soft = 0.005, min(0.0018, (high - low) / 2.5)
    angle = np.linspace(0, np.pi / 2, 4)
    quarter = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * round_ + (half - round_)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    outline = np.concatenate([quarter @ np.linalg.matrix_power(turn, k).T for k in range(4)])
    rings = []
    for z, inset in ((low, soft), (low + soft, 0.0), (high - soft, 0.0), (high, soft)):
        flat = outline * (half - inset) / half
        rings.append(np.concatenate([flat, np.full((len(flat), 1), z)], axis=1))
    return loft(rings, colour)


def _cube(colour: str) -> Model:
    half = 0.015
    cube = box((-half,) * 3, (half,) * 3, colour)
    info = "info_bridge_custom_baked_tex_v0.json"
    return Model((cube,), (cube,), _box_of(half, half, half), 1000, info)


def _eggplant() -> Model:
    # x, radius, height of the axis: a pear shape bent up a little towards the stem.
    body = [
        (-0.0400, 0.0070, 0.0075),
        (-0.0360, 0.0100, 0.0060),
        (-0.0280, 0.0125, 0.0030),
        (-0.0180, 0.0152, 0.0005),
        (-0.0060, 0.0174, -0.0008),
        (0.0080, 0.0187, -0.0013),
        (0.0180, 0.0182, -0.0013),
        (0.0260, 0.0152, -0.0013),
        (0.0310, 0.0105, -0.0013),
        (0.0338, 0.0045, -0.0013),
    ]
    tube = [(x, r, r, z) for x, r, z in body]
    # Eight sides for the physics: a round one would roll about the basin for seconds.
    fruit, hull = _tube(tube, 24, "purple"), _tube(tube, 8, "purple")
    cap = loft(
        [
            ellipse(x, r, r, 0, z, sides=12)
            for x, r, z in ((-0.0425, 0.004, 0.0090), (-0.0395, 0.0085, 0.0078))
        ],
        "stem",
    )
    stalk = [(-0.0537, 0.0022, 0.0125), (-0.0480, 0.0024, 0.0108), (-0.0400, 0.0034, 0.0078)]
    stem = loft([ellipse(x, r, r, 0, z, sides=10) for x, r, z in stalk], "stem")
    return Model((fruit, cap, stem), (hull,), _box_of(0.03915, 0.0187, 0.0190), 400)


def _target() -> Model:
    plane = box((-0.065, -0.04, -0.001), (0.065, 0.04, 0.001), "basket")
    return Model((plane,), (plane,), _box_of(0.065, 0.04, 0.001), 100000)


def _sink() -> Model:
    bbox = ((-0.1345, -0.1965, 0.0), (0.1345, 0.1965, 0.115))
    return Model(tuple(sink.visual()), tuple(sink.collision()), bbox, 100000)
