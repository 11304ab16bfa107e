"""LeRobot v3.0 data sets: the names the rest of the project uses.

The layout on disk is LeRobot's own, so that its reader and Hugging Face `datasets` open what is
written here; the package itself is no dependency because it pins torch and brings a robot's worth
of drivers. One episode is one Parquet row group. Our own facts about a data set (who made it, its
convention, its cameras) are in meta/dualvla.json.
"""

from dualvla.data.features import (
    ACTION,
    CAMERA,
    CONTROLLER,
    DEFAULTS,
    ENVIRONMENT,
    EVENTS,
    LANGUAGE,
    PERSISTENT,
    STATE,
    Feature,
    image,
    robot_features,
    simulation_features,
    vector,
)
from dualvla.data.reading import About, Dataset, open_dataset
from dualvla.data.writing import LanguageRow, Writer

__all__ = [
    "ACTION",
    "CAMERA",
    "CONTROLLER",
    "DEFAULTS",
    "ENVIRONMENT",
    "EVENTS",
    "LANGUAGE",
    "PERSISTENT",
    "STATE",
    "About",
    "Dataset",
    "Feature",
    "LanguageRow",
    "Writer",
    "image",
    "open_dataset",
    "robot_features",
    "simulation_features",
    "vector",
]
