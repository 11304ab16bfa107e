"""What a layout has to know of the simulator: shapes, the ground, the camera, and pose matrices.

Plain arrays, so that layouts can be drawn and tested without a simulator. Lengths in metres, angles
in radians.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """An object's collision geometry in its own frame; the long axis is x."""

    pieces: tuple[Array, ...]  # convex pieces, (n, 3) vertices each
    rest: Array  # (3, 3) how it lies on a plane, yaw 0
    rolls: bool = False  # whether it may lie on any side around its long axis

    @property
    def vertices(self) -> Array:
        """All vertices, (n, 3)."""
        return np.concatenate(self.pieces)

    def slice(self, at: float) -> Array:
        """Points (n, 3) of the surface's cut with the plane x = `at`; empty beyond its ends."""
        cuts = []
        for piece in self.pieces:
            before, after = piece[piece[:, 0] <= at], piece[piece[:, 0] > at]
            if len(before) and len(after):
                span = after[None, :, 0] - before[:, None, 0]
                share = ((at - before[:, None, 0]) / span)[..., None]
                cuts.append((before[:, None] * (1 - share) + after[None] * share).reshape(-1, 3))
        return np.concatenate(cuts) if cuts else np.zeros((0, 3))


@dataclass(frozen=True)
class Setting:
    """What a sampler has to know of the table or the sink of one asset pack."""

    name: str  # table or sink
    shapes: dict[str, Shape]
    floor: Callable[[Array], Array]  # (n, 2) world x, y -> (n,) height of the fixed surface
    project: Callable[[Array], Array]  # (n, 3) world -> (n, 2) u, v in [0, 1] inside the image
    base: Array  # (4, 4) robot base in the world
    basket: Array | None  # (4, 4) the sink's target plane in the world
    finger_inner: float  # a finger's inner face, from its joint's axis
    rest: Array  # (6,) arm joints at the start of an episode


def turn(axis: int, angle: float) -> Array:
    """Rotation matrix (3, 3) about x, y or z (0, 1, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def pose(rotation: Array, position: Array) -> Array:
    """Homogeneous (4, 4) matrix."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


def apply(matrix: Array, points: Array) -> Array:
    """Move (n, 3) points by a (4, 4) pose."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
