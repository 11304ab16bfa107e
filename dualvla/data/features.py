"""Columns of a LeRobot v3.0 data set: what info.json, Arrow and Hugging Face each call them.

One `Feature` becomes an entry of info.json, an Arrow field and an entry of the `huggingface` schema
metadata, so the three cannot disagree. Only what the pipeline stores is supported (vectors,
scalars, embedded images, the two language columns); the rest is refused rather than guessed.
Vectors are named `Sequence` and lists of rows `[row]` in the metadata because every release of
`datasets` reads those, while `List` needs the fourth.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dualvla import conventions
from dualvla.errors import UserError

CAMERA = "observation.images.camera"
STATE = "observation.state"
CONTROLLER = "observation.controller"
ENVIRONMENT = "observation.environment_state"
ACTION = "action"
PERSISTENT = "language_persistent"
EVENTS = "language_events"

NUMBERS = ("float32", "float64", "int64", "bool")


@dataclass(frozen=True)
class Feature:
    """One column: its dtype, its shape a frame and the names of its entries."""

    dtype: str  # float32, float64, int64, bool, string, image, language
    shape: tuple[int, ...]  # images: (height, width, channels)
    names: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The feature's entry in info.json."""
        names = None if self.names is None else list(self.names)
        return {"dtype": self.dtype, "shape": list(self.shape), "names": names}


def vector(size: int, names: tuple[str, ...] | None = None) -> Feature:
    """A float32 vector of `size` entries."""
    return Feature("float32", (size,), names)


def image(height: int, width: int) -> Feature:
    """An RGB picture, stored as encoded JPEG or PNG bytes."""
    return Feature("image", (height, width, 3), ("height", "width", "channels"))


# Columns every LeRobot data set has; a writer fills them itself.
DEFAULTS = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}
LANGUAGE = {PERSISTENT: Feature("language", (1,)), EVENTS: Feature("language", (1,))}


def robot_features(height: int, width: int) -> dict[str, Feature]:
    """Columns of imported robot data: picture, state and action (`conventions`)."""
    return {
        CAMERA: image(height, width),
        STATE: vector(7, conventions.STATE_NAMES),
        ACTION: vector(7, conventions.ACTION_NAMES),
    }


def simulation_features(image_size: int) -> dict[str, Feature]:
    """Columns of simulated episodes: those of a robot, the controller and the simulator's state."""
    names = conventions.ENVIRONMENT_STATE_NAMES
    return robot_features(image_size, image_size) | {
        CONTROLLER: vector(6, conventions.STATE_NAMES[:6]),
        ENVIRONMENT: vector(len(names), names),
    }


def from_json(name: str, entry: dict[str, Any], where: str) -> Feature:
    """Read an entry of info.json; a `UserError` if it is malformed or a kind we do not store."""
    try:
        names = entry.get("names")
        shape = tuple(int(n) for n in entry["shape"])
        feature = Feature(str(entry["dtype"]), shape, tuple(names) if names else None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"feature {name} is malformed", where=where, fix="write it anew") from error
    arrow_type(name, feature, where)
    return feature


def arrow_type(name: str, feature: Feature, where: str = "features") -> Any:
    """The Arrow type of a column.

    Raises:
        UserError: a dtype or shape that this project does not store, such as mp4 video.
    """
    if feature.dtype == "image":
        return pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    if feature.dtype == "language" and name in LANGUAGE:
        return language_type(name, pa.json_())
    if feature.dtype == "string" and feature.shape == (1,):
        return pa.string()
    if feature.dtype in NUMBERS and len(feature.shape) == 1 and feature.shape[0] > 0:
        value = pa.bool_() if feature.dtype == "bool" else getattr(pa, feature.dtype)()
        return value if feature.shape == (1,) else pa.list_(value, feature.shape[0])
    raise UserError(
        f"feature {name} ({feature.dtype}, shape {list(feature.shape)}) is not supported",
        where=where,
        fix="convert it to a vector or to an image column",
    )


def schema(features: dict[str, Feature]) -> Any:
    """The Arrow schema of a data file, with the `huggingface` metadata that `datasets` reads."""
    fields = [pa.field(name, arrow_type(name, feature)) for name, feature in features.items()]
    described = {name: _huggingface(name, feature) for name, feature in features.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.schema(fields, metadata=metadata)


def language_type(name: str, call: Any) -> Any:
    """Arrow type of a language column with tool calls of type `call` (LeRobot's: JSON).

    Only persistent rows carry a time: the one from which they hold.
    """
    time = [pa.field("timestamp", pa.float32(), nullable=False)] if name == PERSISTENT else []
    row = [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string()),
        pa.field("style", pa.string()),
        *time,
        pa.field("camera", pa.string()),
        pa.field("tool_calls", pa.list_(call)),
    ]
    return pa.list_(pa.struct(row))


def _huggingface(name: str, feature: Feature) -> Any:
    if feature.dtype == "image":
        return {"_type": "Image"}
    if feature.dtype == "language":
        text = {"dtype": "string", "_type": "Value"}
        keys = ("role", "content", "style", "timestamp", "camera", "tool_calls")
        row: dict[str, Any] = dict.fromkeys(keys, text)
        row["timestamp"] = {"dtype": "float32", "_type": "Value"}
        row["tool_calls"] = [text]
        if name == EVENTS:
            del row["timestamp"]
        return [row]
    value = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return value
    return {"feature": value, "length": feature.shape[0], "_type": "Sequence"}
