"""Backdrops: the two pictures the simulator shows behind robot and objects.

The tasks draw everything but the robot and the objects from a photograph taken with the benchmark's
camera. Here a small ray caster paints that picture from convex solids, through the same camera, so
that a table edge or a basket rim is where the physics has it. It costs a few seconds once, against
a stored picture that would no longer fit when a solid changes. Nothing in it is random: textures
come from a hash of integer coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualvla.simulation.assets import sink
from dualvla.simulation.assets.solids import COLOURS, Solid, box, disc

Array = NDArray[np.float64]

WIDTH, HEIGHT = 640, 480
FOCAL, CENTRE = 623.588, (319.501, 239.545)  # pixels; the benchmark's camera
SAMPLES = 2  # rays a pixel and axis, against jagged edges
TABLE_TOP = 0.8695  # metres, world
TABLE = ((-0.345, -0.295), (0.026, 1.2))  # corners x, y of the table top that is seen
SINK_AT = (-0.16, 0.13, 0.88)

# Towards the lights and their strength; the first is the lamp over the table.
LIGHTS = (((0.25, 0.15, 1.0), 0.62), ((1.0, 0.35, 0.45), 0.22), ((0.3, 1.0, 0.35), 0.12))
AMBIENT = 0.30


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on the robot's base."""

    base: tuple[float, float, float]  # of the robot, world; it faces -x
    position: tuple[float, float, float]  # in the base frame
    quaternion: tuple[float, float, float, float]  # wxyz; x ahead, y left, z up

    def rays(self) -> tuple[Array, Array]:
        """Origin (3,) and directions (HEIGHT * SAMPLES, WIDTH * SAMPLES, 3), world."""
        origin, axes = self._frame()
        u = (np.arange(WIDTH * SAMPLES) + 0.5) / SAMPLES
        v = (np.arange(HEIGHT * SAMPLES) + 0.5) / SAMPLES
        right, down = np.meshgrid((u - CENTRE[0]) / FOCAL, (v - CENTRE[1]) / FOCAL)
        return origin, np.stack([np.ones_like(right), -right, -down], axis=-1) @ axes.T

    def window(self, points: Array) -> tuple[slice, slice]:
        """Rows and columns of the sample grid that can show a convex body with these corners."""
        origin, axes = self._frame()
        ahead, left, up = ((points - origin) @ axes).T
        if ahead.min() < 0.02:  # partly behind the camera
            return slice(None), slice(None)
        u, v = CENTRE[0] - FOCAL * left / ahead, CENTRE[1] - FOCAL * up / ahead
        return _span(v, HEIGHT), _span(u, WIDTH)

    def _frame(self) -> tuple[Array, Array]:
        w, x, y, z = np.array(self.quaternion) / np.linalg.norm(self.quaternion)
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        flip = np.diag([-1.0, -1.0, 1.0])
        return np.array(self.base) + flip @ np.array(self.position), flip @ turn


TABLE_CAMERA = Camera(
    (0.147, 0.028, 0.870),
    (0.0, -0.16, 0.36),
    (0.8992917, -0.09263245, 0.35892478, 0.23209205),
)
SINK_CAMERA = Camera(
    (0.127, 0.060, 0.850),
    (-0.00300001, -0.21, 0.39),
    (-0.907313, 0.0782, -0.36434, -0.194741),
)


def table() -> NDArray[np.uint8]:
    """The wooden table in front of a grey wall, (480, 640, 3)."""
    (x0, y0), (x1, y1) = TABLE
    solids = [
        box((x0, y0, TABLE_TOP - 0.028), (x1, y1, TABLE_TOP), "wood"),
        box((x0 - 0.20, -3.0, 0.0), (x0 - 0.012, 3.0, 3.0), "wall"),
        box((-3.0, y0 - 0.20, 0.0), (3.0, y0 - 0.012, 3.0), "wall"),
        box((-3.0, -3.0, 0.30), (3.0, 3.0, 0.35), "floor"),
    ]
    return paint(TABLE_CAMERA, solids)


def kitchen() -> NDArray[np.uint8]:
    """The sink with its basket on a counter, tap and tower behind it, (480, 640, 3)."""
    (a0, b0), (a1, b1) = sink.BASIN
    middle = ((a0 + a1) / 2, (b0 + b1) / 2)
    extras = [
        disc((*middle, sink.BASIN_FLOOR + 0.0003), 0.033, "z", 0.0003, "seam"),
        disc((*middle, sink.BASIN_FLOOR + 0.0006), 0.0315, "z", 0.0003, "sink"),
        disc((*middle, sink.BASIN_FLOOR + 0.0009), 0.011, "z", 0.0003, "drain"),
        disc((0.035, -0.105, sink.BASIN_FLOOR + 0.0005), 0.012, "z", 0.0003, "drain"),
        box((-0.136, 0.006, 0.090), (-0.082, 0.084, 0.420), "navy"),
        box((-0.081, 0.016, 0.104), (-0.080, 0.074, 0.420), "recess"),
        box((-0.128, 0.104, 0.090), (-0.076, 0.190, 0.110), "grey"),
        disc((-0.102, 0.140, 0.130), 0.021, "z", 0.028, "grey"),
        disc((-0.102, 0.140, 0.240), 0.013, "z", 0.130, "grey"),
        disc((-0.102, 0.166, 0.142), 0.012, "y", 0.016, "grey"),
        box((-0.107, 0.176, 0.140), (-0.097, 0.184, 0.185), "grey"),
        box((-0.127, -0.194, -0.0165), (0.128, 0.186, 0.004), "navy"),  # foot
    ]
    bench = [
        box((-0.60, -2.0, 0.80), (0.16, 2.0, SINK_AT[2] - 0.0165), "pine"),
        box((-2.0, -2.0, 0.80), (-0.36, 2.0, SINK_AT[2] - 0.010), "counter"),
        box((-2.0, -2.0, 0.0), (2.0, -0.46, 3.0), "tiles"),
        box((-2.0, -2.0, 0.0), (-1.1, 2.0, 3.0), "tiles"),
        box((-3.0, -3.0, 0.30), (3.0, 3.0, 0.35), "counter"),
    ]
    parts = [solid.moved(SINK_AT) for solid in [*sink.visual(), *extras]]
    return paint(SINK_CAMERA, [*bench, *parts])


def paint(camera: Camera, solids: list[Solid]) -> NDArray[np.uint8]:
    """Ray-cast convex solids given in world coordinates; returns (480, 640, 3)."""
    origin, rays = camera.rays()
    depth = np.full(rays.shape[:2], np.inf)
    normal = np.zeros_like(rays)
    which = np.full(rays.shape[:2], -1)
    for number, solid in enumerate(solids):
        window = camera.window(solid.vertices)
        entry, facing = _enter(solid, origin, rays[window])
        nearer = entry < depth[window]
        depth[window][nearer] = entry[nearer]
        normal[window][nearer] = facing[nearer]
        which[window][nearer] = number
    light = np.zeros_like(rays)
    for number, solid in enumerate(solids):
        mask = which == number
        if not mask.any():
            continue
        points = origin + rays[mask] * depth[mask][:, None]
        base = np.array(COLOURS[solid.colour][:3])
        texture = TEXTURES.get(solid.colour)
        shade = _shade(normal[mask]) * (_hollow(points) if solid.colour in SUNK else 1.0)
        grain = texture(points) if texture else np.ones(len(points))
        light[mask] = base * (shade * grain)[:, None]
    fine = light.reshape(HEIGHT, SAMPLES, WIDTH, SAMPLES, 3).mean(axis=(1, 3))
    return np.round(255 * np.clip(fine, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _enter(solid: Solid, origin: Array, rays: Array) -> tuple[Array, Array]:
    """Distance (..., ) at which rays enter a convex solid, infinite if never, and the normal."""
    a, b, c = np.moveaxis(solid.vertices[solid.faces], 1, 0)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    flat = length > 1e-14
    normals, a = normals[flat] / length[flat][:, None], a[flat]
    planes = np.unique(np.round(np.column_stack([normals, np.sum(normals * a, axis=1)]), 9), axis=0)
    near, far = np.full(rays.shape[:-1], -np.inf), np.full(rays.shape[:-1], np.inf)
    facing = np.zeros_like(rays)
    for *direction, offset in planes:
        against = rays @ np.array(direction)
        gap = offset - origin @ np.array(direction)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = gap / against
        enters = (against < 0) & (at > near)
        near[enters] = at[enters]
        facing[enters] = direction
        far = np.where(against > 0, np.minimum(far, at), far)
        far[(against == 0) & (gap < 0)] = -np.inf
    return np.where((near < far) & (near > 0), near, np.inf), facing


def _shade(normals: Array) -> Array:
    total = np.full(len(normals), AMBIENT)
    for towards, strength in LIGHTS:
        direction = np.array(towards) / np.linalg.norm(towards)
        total += strength * np.maximum(normals @ direction, 0.0)
    return total


def _hollow(points: Array) -> Array:
    """Darker the deeper below the sink's rim: a stand-in for light that does not get in."""
    below = np.clip(SINK_AT[2] + sink.RIM - points[:, 2], 0.0, 0.06)
    return 1.0 - 5.0 * below


def _wood(points: Array) -> Array:
    """Grain along y, with slow waves across it and dark pores."""
    x, y = points[:, 0], points[:, 1]
    bend = 0.020 * _noise(4.0 * x, 2.5 * y, 1)
    rings = _noise(55.0 * (x + bend), 1.6 * y, 2)
    fibre = _noise(420.0 * (x + 0.3 * bend), 9.0 * y, 3)
    pores = np.maximum(_noise(900.0 * x, 26.0 * y, 4) - 0.72, 0.0)
    return 0.82 + 0.24 * rings + 0.16 * fibre - 0.9 * pores


def _fabric(points: Array) -> Array:
    """A coarse weave."""
    across, up = points[:, 0] + points[:, 1], points[:, 2]
    threads = _noise(420.0 * across, 90.0 * up, 5) + _noise(90.0 * across, 420.0 * up, 6)
    return 0.62 + 0.38 * threads


def _speckle(points: Array) -> Array:
    return 0.94 + 0.12 * _noise(30.0 * points[:, 0], 30.0 * points[:, 1], 7)


def _noise(x: Array, y: Array, seed: int) -> Array:
    """Value noise in [0, 1]: hashed lattice points, smoothly joined."""
    column, row = np.floor(x), np.floor(y)
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = column.astype(np.int64), row.astype(np.int64)
    top = _hash(i, j, seed) * (1 - fx) + _hash(i + 1, j, seed) * fx
    bottom = _hash(i, j + 1, seed) * (1 - fx) + _hash(i + 1, j + 1, seed) * fx
    return top * (1 - fy) + bottom * fy


def _hash(i: NDArray[np.int64], j: NDArray[np.int64], seed: int) -> Array:
    mixed = (i * 374761393 + j * 668265263 + seed * 362437) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 16)).astype(np.float64) / 0xFFFFFFFF


def _span(values: Array, size: int) -> slice:
    low = int(np.clip(np.floor(values.min() * SAMPLES) - 1, 0, size * SAMPLES))
    high = int(np.clip(np.ceil(values.max() * SAMPLES) + 1, 0, size * SAMPLES))
    return slice(low, high)


SUNK = {"sink", "basket", "drain"}
TEXTURES: dict[str, Callable[[Array], Array]] = {
    "wood": _wood,
    "pine": _wood,
    "wall": _fabric,
    "counter": _speckle,
}
