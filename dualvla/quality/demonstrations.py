"""Suite of data/demonstrations: episodes a policy can learn from.

Simulated episodes must also succeed, stay within the step limit and cover every declared task;
imported ones need not, because nothing of the sort is known of them, and their missing instructions
are a warning. Incoming shards are imported ones of any source, in the simulation's convention and
picture size, since policies trained on them act there. Bounds on actions are those of a WidowX at
5 Hz: a step beyond 0.1 m or 1 rad is a unit or a frame gone wrong.
"""

from pathlib import Path

import pandas as pd

from dualvla import conventions
from dualvla.config import Params
from dualvla.conventions import ACTION_NAMES, ENVIRONMENT_STATE_NAMES, STATE_NAMES
from dualvla.data.features import ACTION, STATE
from dualvla.quality import episodes
from dualvla.quality.checks import (
    Check,
    Checks,
    Tables,
    between,
    columns,
    equal,
    filled,
    holds,
    in_set,
    rows,
    soft,
    unique,
)
from dualvla.simulation.environments import TASKS

MAX_TRANSLATION = 0.1  # metres a step
MAX_ROTATION = 1.0  # radians a step
MIN_LENGTH = 5  # frames
MAX_LENGTH = 2000  # frames of an imported episode
WORKSPACE = {"x": (-0.1, 0.8), "y": (-0.6, 0.6), "z": (-0.15, 0.8)}  # metres, robot base frame
TIME_TOLERANCE = 1e-3  # seconds; timestamps are float32
CONTRAST = 2.0  # least standard deviation of a picture, grey levels of 255


def checks(params: Params) -> Checks:
    """Expectations by table, with bounds from the parameters."""
    source = params.demonstrations.source
    simulated = source == "simulation"
    longest = max(TASKS[task].max_steps for task in params.simulation.tasks)
    suite = {
        "dataset": _dataset(),
        "frames": _frames(simulated),
        "episodes": _episodes(simulated, longest if simulated else MAX_LENGTH),
        "pictures": _pictures(None if source == "rlds" else params.simulation.image_size),
    }
    return suite | ({"tasks": _tasks(params)} if simulated else {})


def tables(out: Path, params: Params) -> Tables:
    """One table each of the data set, its frames, episodes, tasks and sampled pictures."""
    folder = episodes.read(out)
    frames = episodes.frames(folder)
    table = episodes.episodes(folder, frames)
    expected = [TASKS[task].instruction for task in params.simulation.tasks]
    return {
        "dataset": _summary(folder, params),
        "frames": frames,
        "episodes": table,
        "pictures": episodes.pictures(folder),
        "tasks": episodes.tasks(table, expected),
    }


def _summary(folder: episodes.Folder, params: Params) -> pd.DataFrame:
    """The data set in one row."""
    source = params.demonstrations.source
    convention = conventions.BY_SOURCE[source].to_json()
    features, info = folder.info["features"], folder.info
    width = {key: (features.get(key) or {"shape": [0]})["shape"][0] for key in (ACTION, STATE)}
    row = {
        "dataset": folder.name,
        "action_width": width[ACTION],
        "state_width": width[STATE],
        "source_matches": int(source in ("incoming", folder.about.get("source"))),
        "convention_matches": int(folder.about.get("convention") == convention),
        "rate_matches": int(float(info["fps"]) == convention["control_hz"]),
        "declared_episodes": info["total_episodes"],
        "episodes": len(folder.episodes),
        "declared_frames": info["total_frames"],
        "frames": len(folder.table),
    }
    return pd.DataFrame([row])


def _dataset() -> list[Check]:
    agree = "metadata and data disagree"
    return [
        between("action_width", low=7, high=7, why="an action is six deltas and a gripper command"),
        between("state_width", low=7, high=7, why="a state is a pose and a gripper opening"),
        holds(
            "source_matches",
            "convention_matches",
            "rate_matches",
            why="a policy would act in another frame, unit or rate than it learned",
        ),
        equal("declared_episodes", "episodes", why=agree),
        equal("declared_frames", "frames", why=agree),
    ]


def _frames(simulated: bool) -> list[Check]:
    action, state = _names("action", ACTION_NAMES), _names("state", STATE_NAMES)
    controller = _names("controller", STATE_NAMES[:6]) if simulated else []
    identity = ["dataset", "episode_index", "frame_index"]
    suite = [
        rows("an empty data set trains nothing", low=1),
        columns(*identity, "timestamp", "index", "task_index", why="LeRobot's own columns"),
        columns(*action, *state, *controller, why="what a policy reads and writes"),
        filled(*action, *state, *controller, why="one NaN ends a training run"),
        between(*action[:3], low=-MAX_TRANSLATION, high=MAX_TRANSLATION, why="metres a step"),
        between(*action[3:6], low=-MAX_ROTATION, high=MAX_ROTATION, why="radians a step"),
        between("action.gripper", low=-1, high=1, why="+1 opens, -1 closes"),
        between("state.gripper", low=0, high=1, why="opening, 0 closed and 1 open"),
        between(*state[3:6], low=-6.3, high=6.3, why="Euler angles are radians"),
        unique(*identity, why="a frame's identity"),
        between("frame_gap", low=0, high=0, why="frames of an episode count from 0 without a gap"),
        between("time_error", low=0, high=TIME_TOLERANCE, why="timestamp is frame_index / fps"),
        between("index_gap", low=0, high=0, why="index is the row in the data set"),
    ]
    for prefix in ["state", "controller"] if simulated else ["state"]:
        for axis, (low, high) in WORKSPACE.items():
            why = "the gripper is out of the workspace, metres"
            suite.append(between(f"{prefix}.{axis}", low=low, high=high, why=why))
    if simulated:
        names = _names("environment", ENVIRONMENT_STATE_NAMES)
        suite += [
            columns(*names, why="annotations and scores come from the simulator's state"),
            filled("environment.success", "environment.phase", "environment.grasped", why="same"),
            between("environment.success", "environment.grasped", low=0, high=1, why="yes or no"),
        ]
    return suite


def _episodes(simulated: bool, longest: int) -> list[Check]:
    told = between(
        "instruction_words", low=1, why="an episode without a command teaches no language"
    )
    suite = [
        between("length", low=MIN_LENGTH, high=longest, why="cut short, or never ending"),
        equal("length", "frames", why="metadata and data disagree"),
        unique("action_hash", why="the same episode twice"),
        told if simulated else soft(told),
    ]
    if simulated:
        suite.append(holds("success_last", why="the expert did not do what the command says"))
    return suite


def _tasks(params: Params) -> list[Check]:
    least = params.demonstrations.per_task
    return [
        holds("expected", why="a command of no task in simulation.tasks"),
        between("episodes", low=least, why="demonstrations.per_task"),
    ]


def _pictures(size: int | None) -> list[Check]:
    suite = [
        rows("no pictures at all", low=1),
        holds("decoded", why="a damaged picture"),
        between("contrast", low=CONTRAST, why="a picture of one colour: nothing was rendered"),
    ]
    if size is None:
        return [*suite, between("width", "height", low=32, why="too small to see anything")]
    return [*suite, in_set("width", "height", values=[size], why="simulation.image_size")]


def _names(prefix: str, names: tuple[str, ...]) -> list[str]:
    return [f"{prefix}.{name}" for name in names]
