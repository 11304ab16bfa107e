"""A pinhole camera in normalised units, independent of the image's size.

Pictures are stored at one size and may be resized by a processor; u and v as shares of width and
height survive that, pixels do not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Camera:
    """Where a point of the robot base frame appears in the picture."""

    intrinsic: NDArray[np.float64]  # (3, 3); image width and height are 1
    extrinsic: NDArray[np.float64]  # (3, 4); base frame to camera (x right, y down, z forward)

    def project(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Image positions u, v (..., 2) of points (..., 3) in metres, base frame.

        u and v lie in [0, 1] where the picture shows the point. A point in the camera's plane or
        behind it gives no meaningful position.
        """
        points = np.asarray(points, np.float64)
        seen = points @ self.extrinsic[:, :3].T + self.extrinsic[:, 3]
        pixels = seen @ self.intrinsic.T
        return pixels[..., :2] / pixels[..., 2:]

    def to_json(self) -> dict[str, list[list[float]]]:
        """As plain data, rounded so that stored text is the same on every machine."""
        return {
            "intrinsic": np.round(self.intrinsic, 6).tolist(),
            "extrinsic": np.round(self.extrinsic, 6).tolist(),
        }


def from_json(data: dict[str, Any]) -> Camera:
    """A camera from what `Camera.to_json` gave."""
    return Camera(np.asarray(data["intrinsic"]), np.asarray(data["extrinsic"]))
