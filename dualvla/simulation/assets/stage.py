"""The table as the simulator's stage: one slab, as binary glTF.

The tasks load the stage turned by a quarter about x and shifted, for which this file makes up. They
cover it with the backdrop, so only its top counts, and that it reaches further than anything rolls.
"""

import json
import struct

import numpy as np

from dualvla.simulation.assets.backdrop import TABLE_TOP
from dualvla.simulation.assets.solids import COLOURS, box

SHIFT = (2.0634, 2.8313, 0.0)  # where the tasks put the stage's origin, world metres
LOW, HIGH = (-1.2, -1.2, TABLE_TOP - 0.05), (0.8, 1.2, TABLE_TOP)


def glb() -> bytes:
    """The slab as a glTF binary of one mesh, y upwards as the format has it."""
    solid = box(np.subtract(LOW, SHIFT), np.subtract(HIGH, SHIFT))
    x, y, z = solid.vertices.T
    points = np.stack([x, z, -y], axis=-1).astype("<f4")
    faces = solid.faces.astype("<u4")
    red, green, blue, roughness = COLOURS["wood"]
    views = [
        {"buffer": 0, "byteOffset": 0, "byteLength": points.nbytes, "target": 34962},
        {"buffer": 0, "byteOffset": points.nbytes, "byteLength": faces.nbytes, "target": 34963},
    ]
    accessors = [
        {
            "bufferView": 0,
            "componentType": 5126,
            "count": len(points),
            "type": "VEC3",
            "min": points.min(axis=0).tolist(),
            "max": points.max(axis=0).tolist(),
        },
        {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
    ]
    surface = {
        "baseColorFactor": [red, green, blue, 1.0],
        "roughnessFactor": roughness,
        "metallicFactor": 0.0,
    }
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "table"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": surface}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": points.nbytes + faces.nbytes}],
    }
    text = json.dumps(tree, sort_keys=True).encode()
    text += b" " * (-len(text) % 4)
    data = points.tobytes() + faces.tobytes()
    total = 12 + 8 + len(text) + 8 + len(data)
    header = struct.pack("<4sII", b"glTF", 2, total)
    return (
        header
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(data), b"BIN\0")
        + data
    )
