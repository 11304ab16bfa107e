"""Solids: triangle meshes made from a few primitives, and the files they are written as.

Everything in the generated pack is a list of coloured solids. A solid is closed and wound outwards;
those used for collisions are convex, because the simulator takes the hull of each connected part
of a mesh. Files are Wavefront OBJ: plain text that keeps one material a colour, so that the
renderer needs neither textures nor vertex colours, and that is the same bytes on every machine.
No mesh library is needed for that, and none would be shorter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Edges sharper than this stay sharp when normals are averaged over a curved surface.
CREASE = np.deg2rad(40.0)


@dataclass(frozen=True)
class Solid:
    """A closed triangle mesh of one colour."""

    vertices: Array  # (n, 3) metres
    faces: NDArray[np.int64]  # (m, 3) vertex numbers, counter-clockwise from outside
    colour: str = "grey"  # a name in `COLOURS`

    def moved(self, offset: ArrayLike) -> "Solid":
        """The solid shifted by `offset` (3,), metres."""
        return replace(self, vertices=self.vertices + np.asarray(offset, np.float64))

    def painted(self, colour: str) -> "Solid":
        """The solid in another colour."""
        return replace(self, colour=colour)

    def volume(self) -> float:
        """Enclosed volume, cubic metres; positive if the faces are wound outwards."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


# Linear red, green, blue in [0, 1] and roughness, as the renderer takes them.
COLOURS: dict[str, tuple[float, float, float, float]] = {
    "black": (0.028, 0.028, 0.030, 0.45),
    "charcoal": (0.045, 0.045, 0.049, 0.45),
    "grey": (0.30, 0.29, 0.28, 0.60),
    "silver": (0.50, 0.51, 0.53, 0.35),
    "orange": (0.75, 0.20, 0.015, 0.55),
    "leaf": (0.022, 0.115, 0.018, 0.70),
    "handle": (0.33, 0.53, 0.07, 0.50),
    "bowl": (0.46, 0.47, 0.48, 0.40),
    "plate": (0.68, 0.65, 0.22, 0.45),
    "ring": (0.50, 0.46, 0.13, 0.45),
    "cloth": (0.20, 0.42, 0.58, 0.95),
    "hem": (0.11, 0.28, 0.44, 0.95),
    "green": (0.060, 0.205, 0.105, 0.65),
    "yellow": (0.76, 0.56, 0.13, 0.65),
    "purple": (0.095, 0.012, 0.250, 0.40),
    "stem": (0.030, 0.150, 0.025, 0.70),
    "basket": (0.80, 0.60, 0.17, 0.60),
    "sink": (0.40, 0.58, 0.62, 0.50),
    "seam": (0.30, 0.46, 0.50, 0.50),
    "navy": (0.012, 0.030, 0.100, 0.50),
    "recess": (0.006, 0.012, 0.040, 0.60),
    "drain": (0.010, 0.010, 0.012, 0.60),
    "wood": (0.40, 0.115, 0.042, 0.60),
    "pine": (0.55, 0.33, 0.13, 0.60),
    "wall": (0.17, 0.185, 0.205, 0.95),
    "tiles": (0.33, 0.29, 0.26, 0.80),
    "counter": (0.62, 0.56, 0.53, 0.70),
    "floor": (0.030, 0.036, 0.050, 0.95),
}


def loft(rings: Sequence[ArrayLike], colour: str = "grey", *, hollow: bool = False) -> Solid:
    """Skin rings of k points each, in order, and close both ends.

    Args:
        rings: two or more arrays (k, 3); seen along the order of the rings, each turns clockwise
            or each counter-clockwise. The winding of the faces is set right here.
        colour: a name in `COLOURS`.
        hollow: join the last ring to the first instead of closing the ends, as of a torus.
    """
    points = np.stack([np.asarray(ring, np.float64) for ring in rings])
    count, k, _ = points.shape
    index = np.arange(count * k).reshape(count, k)
    upper = np.roll(index, -1, axis=0)
    here, above = (index, upper) if hollow else (index[:-1], upper[:-1])
    beside, across = np.roll(here, -1, axis=1), np.roll(above, -1, axis=1)
    corners = [(here, beside, across), (here, across, above)]
    parts = [np.stack(three, axis=-1).reshape(-1, 3) for three in corners]
    if not hollow:
        fan = np.stack([np.zeros(k - 2, int), np.arange(1, k - 1), np.arange(2, k)], axis=-1)
        parts += [index[0][fan[:, ::-1]], index[-1][fan]]
    faces = np.concatenate(parts)
    solid = Solid(points.reshape(-1, 3), faces, colour)
    return solid if solid.volume() > 0 else replace(solid, faces=faces[:, ::-1].copy())


def box(low: ArrayLike, high: ArrayLike, colour: str = "grey") -> Solid:
    """An axis-aligned box between two corners (3,), metres."""
    (x0, y0, z0), (x1, y1, z1) = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return prism([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], "z", z0, z1, colour)


def prism(
    polygon: Sequence[ArrayLike], axis: str, low: float, high: float, colour: str = "grey"
) -> Solid:
    """A polygon in the plane across `axis`, drawn out from `low` to `high`.

    Args:
        polygon: points (2,) in the order of the remaining axes: x across gives (y, z), y (x, z).
        axis: "x", "y" or "z".
        low: start on the axis, metres.
        high: end on the axis, metres.
        colour: a name in `COLOURS`.
    """
    flat = np.asarray(polygon, np.float64)
    where = "xyz".index(axis)
    return loft([np.insert(flat, where, level, axis=1) for level in (low, high)], colour)


def disc(
    centre: ArrayLike,
    radius: float,
    axis: str,
    half: float,
    colour: str = "grey",
    *,
    sides: int = 24,
) -> Solid:
    """A cylinder around `centre` (3,) along `axis`, of half length `half`, metres."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return prism(list(circle), axis, -half, half, colour).moved(centre)


def ellipse(
    x: float, half_y: float, half_z: float, y: float = 0.0, z: float = 0.0, *, sides: int = 16
) -> Array:
    """A ring (sides, 3) across x whose lowest and highest edges are flat at z -+ half_z.

    The flat edge lets a round body rest on a table without rolling, as a real one does by
    deforming a little.
    """
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    out = 1 / np.cos(np.pi / sides)
    return np.stack(
        [np.full(sides, x), y + half_y * out * np.cos(angle), z + half_z * out * np.sin(angle)], -1
    )


def lathe(
    profile: Sequence[tuple[float, float]],
    colour: str = "grey",
    *,
    sides: int = 48,
    hollow: bool = False,
) -> Solid:
    """Turn a profile of (radius, z) points around z.

    It starts and ends near the axis, or is a closed outline away from it (`hollow`: a ring).
    """
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], axis=-1)
    rings = [circle * r + np.array([0, 0, z]) for r, z in profile]
    return loft(rings, colour, hollow=hollow)


def wavefront(solids: Sequence[Solid], library: str | None) -> str:
    """OBJ text of the solids; `library` names the material file, None leaves materials out."""
    lines = [] if library is None else [f"mtllib {library}"]
    points = normals = 1
    for number, solid in enumerate(solids):
        lines.append(f"o part{number}")
        if library is not None:
            lines.append(f"usemtl {solid.colour}")
        lines += ["v " + " ".join(f"{v:.6f}" for v in vertex) for vertex in solid.vertices]
        corner = _corner_normals(solid)
        lines += ["vn " + " ".join(f"{v:.4f}" for v in normal) for normal in corner.reshape(-1, 3)]
        for face, three in enumerate(solid.faces):
            marks = (f"{v + points}//{normals + 3 * face + k}" for k, v in enumerate(three))
            lines.append("f " + " ".join(marks))
        points += len(solid.vertices)
        normals += 3 * len(solid.faces)
    return "\n".join(lines) + "\n"


def materials(solids: Sequence[Solid]) -> str:
    """MTL text of every colour the solids use."""
    lines = []
    for name in sorted({solid.colour for solid in solids}):
        red, green, blue, roughness = COLOURS[name]
        lines += [f"newmtl {name}", f"Kd {red} {green} {blue}", "Ks 0.2 0.2 0.2"]
        lines += [f"Pr {roughness}", "Pm 0", "illum 2", ""]
    return "\n".join(lines)


def bounds(solids: Sequence[Solid]) -> Array:
    """Smallest and largest coordinates, (2, 3) metres."""
    points = np.concatenate([solid.vertices for solid in solids])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _corner_normals(solid: Solid) -> Array:
    """Normals (faces, 3 corners, 3): faces that meet at less than `CREASE` share one."""
    a, b, c = np.moveaxis(solid.vertices[solid.faces], 1, 0)
    weighted = np.cross(b - a, c - a)  # length is twice the area
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    unit = weighted / np.maximum(length, 1e-15)
    around: dict[int, list[int]] = {}
    for face, three in enumerate(solid.faces):
        for vertex in three:
            around.setdefault(int(vertex), []).append(face)
    result = np.empty((len(solid.faces), 3, 3))
    for face, three in enumerate(solid.faces):
        for k, vertex in enumerate(three):
            near = np.array(around[int(vertex)])
            same = near[unit[near] @ unit[face] >= np.cos(CREASE)]
            total = weighted[same].sum(axis=0) if len(same) else unit[face]
            result[face, k] = total / max(float(np.linalg.norm(total)), 1e-15)
    return result
