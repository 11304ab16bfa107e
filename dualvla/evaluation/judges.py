"""The rules judge: four ratings of a trajectory, 0 to 10 (VLA Score, DualVLA on evaluation).

The paper asks a large model that looks at frames, as `judging.llm` does. This judge reads the
simulator's state by stated rules: it is deterministic, free, and cannot be charmed by fluent text,
but it only knows pick and place, and its ratings are on its own scale, not the paper's.

R, reasoning: half, at every text written, how near the said positions are to the true ones (full
marks within 5 % of the picture, none beyond 20 %; nothing for things that are not in the scene);
half, at every decision with a text in force, whether the said subtask fits what is going on (within
two steps) and names the right thing. A half that no text claims is left out; a text that claims
nothing checkable scores 0.

A, action: smooth commands (0.35), no reversals of direction (0.25), no needless gripper toggles
(0.2), a short path (0.2). Only up to shortly after the first success; 0 if the arm hardly moved.

I, intention: how near the gripper came to the right object (0.3), whether it grasped it (0.3), how
near that object came to its goal (0.4); times 0.3 if another object was moved or grasped at, times
0.8 if the object was dropped on the way.

RA, alignment: at every text written, whether the next four steps move as the text says; at every
decision with a text in force, whether they make the progress its subtask is about.

A policy that keeps silent is judged by the last text in force in the same trajectory; without any,
R and RA are 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualvla.conventions import ACTION_NAMES, ENVIRONMENT_STATE_NAMES
from dualvla.evaluation.speech import Claims, claims

Floats = NDArray[np.float64]

SLACK = 2  # steps a said subtask may be early or late
WINDOW = 4  # steps after a text within which the arm must do as said, as annotations look ahead
NEAR, FAR = 0.05, 0.20  # of the picture: full marks, none
STILL = 0.002  # metres: less is no motion
IDLE = 0.03  # metres within the window: less may be called holding still
TURNED = 0.1  # radians within the window: less is no turn
REACHED = 0.03  # metres from the finger tips to an object's centre: there
PLACED = 0.02  # metres in the plane from its goal: there
CLOSE_BY = 0.06  # metres in the plane: near enough to lower onto
TOUCH = 0.04  # metres: closing the fingers here grasps at a thing
DETOUR = 0.2  # metres of path granted for going up and over
SETTLED = 3  # steps after the first success that still count

_read = lru_cache(maxsize=4096)(claims)
_COLUMN = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}


@dataclass(frozen=True, eq=False)
class Clip:
    """One trajectory as a judge sees it; T steps, T + 1 states."""

    source: str  # objects.Object.name
    target: str
    actions: Floats  # (T, 7) conventions.ACTION_NAMES
    environment: Floats  # (T + 1, K) conventions.ENVIRONMENT_STATE_NAMES
    yaw: Floats  # (T + 1,) of the gripper, radians
    decided: NDArray[np.bool_]  # (T,) the policy was asked
    wrote: NDArray[np.bool_]  # (T,) it wrote a text
    texts: tuple[str | None, ...]  # (T,) in force

    def points(self, thing: str, axes: str = "xyz") -> Floats:
        """(T + 1, len(axes)) of `source`, `target` or `gripper`: metres, u and v in [0, 1]."""
        return self.environment[:, [_COLUMN[f"{thing}.{axis}"] for axis in axes]]

    def holds(self, name: str) -> NDArray[np.bool_]:
        """(T + 1,) a flag of the environment's state."""
        return self.environment[:, _COLUMN[name]] > 0.5


@dataclass(frozen=True)
class Ratings:
    """Integers from 0 to 10; R and RA are None on the specialist scale."""

    reasoning: int | None
    action: int
    intention: int
    alignment: int | None
    failures: tuple[str, ...]


def clip_of(rows: pd.DataFrame, source: str, target: str) -> Clip:
    """A clip from the rows of one episode in steps.parquet."""
    rows = rows.sort_values("step")
    acted = rows.iloc[:-1]
    texts = [None if pd.isna(text) else str(text) for text in acted["text"]]
    return Clip(
        source=source,
        target=target,
        actions=acted[[f"action.{name}" for name in ACTION_NAMES]].to_numpy(np.float64),
        environment=rows[list(ENVIRONMENT_STATE_NAMES)].to_numpy(np.float64),
        yaw=rows["state.yaw"].to_numpy(np.float64),
        decided=acted["decision"].to_numpy(bool),
        wrote=acted["wrote"].to_numpy(bool),
        texts=tuple(texts),
    )


def rules(clip: Clip, speaks: bool) -> Ratings:
    """Rate a trajectory by the rules of this module.

    Args:
        clip: at least one step.
        speaks: whether the model is one that reasons, rated on all four dimensions.
    """
    smooth, toggles, action = _action(clip)
    intention, wrong = _intention(clip)
    failures = _failures(clip, action, smooth, toggles, wrong)
    if not speaks:
        return Ratings(None, _ten(action), _ten(intention), None, failures)
    said = in_force(clip.texts)
    if all(text is None for text in said):
        return Ratings(0, _ten(action), _ten(intention), 0, (*failures, "silent"))
    reasoning, alignment = _reasoning(clip, said), _alignment(clip, said)
    return Ratings(_ten(reasoning), _ten(action), _ten(intention), _ten(alignment), failures)


def in_force(texts: Sequence[str | None]) -> list[str | None]:
    """Texts with silence filled by the last one before it."""
    filled: list[str | None] = []
    for text in texts:
        filled.append(text if text is not None or not filled else filled[-1])
    return filled


def situations(clip: Clip) -> list[frozenset[str]]:
    """What may rightly be going on at each of the T + 1 states, as conventions.PHASES."""
    source, target, tip = (clip.points(thing) for thing in ("source", "target", "gripper"))
    to_source = np.linalg.norm((tip - source)[:, :2], axis=1)
    to_target = np.linalg.norm((source - target)[:, :2], axis=1)
    lifted = source[:, 2] - source[0, 2]
    held, done = clip.holds("grasped"), clip.holds("on_target") | clip.holds("success")
    found = []
    for step in range(len(source)):
        if held[step]:
            now = {"grasp", "lift"} if lifted[step] < CLOSE_BY else set()
            now |= {"move"} if to_target[step] > PLACED else set()
            now |= {"place", "release"} if to_target[step] < CLOSE_BY else set()
        elif done[step]:
            now = {"release", "retreat"}
        else:
            now = {"reach"} if to_source[step] > REACHED / 2 else set()
            now |= {"lower", "grasp"} if to_source[step] < CLOSE_BY else set()
        found.append(frozenset(now))
    return found


def _reasoning(clip: Clip, said: Sequence[str | None]) -> float:
    true = situations(clip)
    places, subtasks = [], []
    for step, heard in _heard(clip, said):
        if clip.wrote[step] and heard.places:
            places.append(_places(clip, heard, step))
        if heard.phases:
            around = true[max(0, step - SLACK) : step + SLACK + 1]
            fits = any(heard.phases & now for now in around)
            subtasks.append(float(fits and _right_thing(clip, heard)))
        elif heard.empty:
            subtasks.append(0.0)
    halves = [float(np.mean(half)) for half in (places, subtasks) if half]
    return float(np.mean(halves)) if halves else 0.0


def _places(clip: Clip, heard: Claims, step: int) -> float:
    names = {clip.source: "source", clip.target: "target", "gripper": "gripper"}
    marks = []
    for name, place in heard.places.items():
        if name not in names:
            marks.append(0.0)
            continue
        true = clip.points(names[name], "uv")[step]
        away = float(np.linalg.norm(np.asarray(place) - true))
        marks.append(float(np.clip((FAR - away) / (FAR - NEAR), 0, 1)))
    return float(np.mean(marks))


def _right_thing(clip: Clip, heard: Claims) -> bool:
    if not heard.things:
        return True
    goal = heard.phases & {"move", "place", "release", "retreat"}
    allowed = {clip.source, clip.target} if goal else {clip.source}
    return set(heard.things) <= allowed


def _alignment(clip: Clip, said: Sequence[str | None]) -> float:
    marks = []
    for step, heard in _heard(clip, said):
        end = min(step + WINDOW, len(said))
        parts = []
        if clip.wrote[step] and heard.moves:
            parts.append(_moves_as_said(clip, heard, step, end))
        if heard.phases:
            # Any stretch from here on will do: a subtask may end before the window does.
            made = (_progress(clip, heard, step, stop) for stop in range(step + 1, end + 1))
            parts.append(float(bool(heard.phases & set().union(*made))))
        if parts or heard.empty:
            marks.append(float(np.mean(parts)) if parts else 0.0)
    return float(np.mean(marks)) if marks else 0.0


def _heard(clip: Clip, said: Sequence[str | None]) -> Iterator[tuple[int, Claims]]:
    """Every decision with a text in force, and what that text claims."""
    for step, text in enumerate(said):
        if clip.decided[step] and text is not None:
            yield step, _read(text)


def _moves_as_said(clip: Clip, heard: Claims, step: int, end: int) -> float:
    tip = clip.points("gripper")
    moved = tip[end] - tip[step]
    length = float(np.linalg.norm(moved))
    marks = []
    if heard.direction is not None:
        cosine = float(moved @ heard.vector()) / length if length > STILL else 0.0
        marks.append(float(np.clip(2 * cosine, 0, 1)))
    if heard.turn:
        turned = (clip.yaw[end] - clip.yaw[step] + np.pi) % (2 * np.pi) - np.pi
        marks.append(float(heard.turn * turned > TURNED))
    if heard.still:
        marks.append(float(length < IDLE))
    if heard.gripper is not None:
        wanted = 1.0 if heard.gripper == "open" else -1.0
        marks.append(float((wanted * clip.actions[step:end, 6] > 0).any()))
    return float(np.mean(marks))


def _progress(clip: Clip, heard: Claims, step: int, end: int) -> set[str]:
    """The phases whose purpose the steps from one state to another served, with the said thing."""
    source, target, tip = (clip.points(thing) for thing in ("source", "target", "gripper"))
    named = heard.things[0] if heard.things else clip.source
    if named not in (clip.source, clip.target):
        return set()
    thing, other = (source, target) if named == clip.source else (target, source)
    nearer = _flat(tip[step] - thing[step]) - _flat(tip[end] - thing[end])
    if named != clip.source:
        # Said of the thing that stays: only what is done around it, with nothing in hand, counts.
        closer = np.linalg.norm(tip[end] - thing[end]) < np.linalg.norm(tip[end] - other[end])
        if clip.holds("grasped")[step] or not (closer or nearer > STILL):
            return set()
        if not closer:
            return {"reach"}
    rise = float(tip[end, 2] - tip[step, 2])
    onward = _flat(tip[step] - target[step]) - _flat(tip[end] - target[end])
    opens = bool(clip.actions[step:end, 6].mean() > 0)
    still = float(np.linalg.norm(tip[end] - tip[step])) < STILL
    served = {
        "reach": nearer > STILL,
        "lower": rise < -STILL,
        "grasp": not opens,
        "lift": rise > STILL,
        "move": onward > STILL,
        "place": rise < -STILL or onward > STILL,
        "release": opens,
        "retreat": rise > STILL or (opens and still),
    }
    return {phase for phase, holds in served.items() if holds}


def _action(clip: Clip) -> tuple[float, int, float]:
    """Smoothness in [0, 1], needless gripper toggles, and the action rating in [0, 1]."""
    end = _end(clip)
    commands = clip.actions[:end, :3]
    sizes = np.linalg.norm(commands, axis=1)
    tip = clip.points("gripper")[: end + 1]
    path = float(np.linalg.norm(np.diff(tip, axis=0), axis=1).sum())
    toggles = int((np.diff(clip.actions[:end, 6] > 0) != 0).sum())
    needless = max(0, toggles - 2)
    if path < REACHED or end < 2 or not sizes.any():
        return 0.0, needless, 0.0
    # 0.4 is what the scripted expert scores at its corners, 0.8 shuffled commands.
    change = float(np.linalg.norm(np.diff(commands, axis=0), axis=1).mean() / (2 * sizes.mean()))
    smooth = float(np.clip((0.8 - change) / 0.4, 0, 1))
    moving = (sizes[1:] > STILL) & (sizes[:-1] > STILL)
    dots = (commands[1:] * commands[:-1]).sum(1)[moving]
    back = float((dots < -0.5 * (sizes[1:] * sizes[:-1])[moving]).mean()) if moving.any() else 0.0
    steady = float(np.clip(1 - 3 * back, 0, 1))
    calm = float(np.clip(1 - needless / 6, 0, 1))
    source, target = clip.points("source")[0], clip.points("target")[0]
    direct = float(np.linalg.norm(tip[0] - source) + np.linalg.norm(source - target))
    short = min(1.0, (direct + DETOUR) / path)
    return smooth, needless, 0.35 * smooth + 0.25 * steady + 0.2 * calm + 0.2 * short


def _intention(clip: Clip) -> tuple[float, bool]:
    """The intention rating in [0, 1], and whether a wrong object was handled."""
    source, target, tip = (clip.points(thing) for thing in ("source", "target", "gripper"))
    held = np.flatnonzero(clip.holds("grasped"))
    away = np.linalg.norm(tip - source, axis=1)
    approach = 1.0 if len(held) else _closed(away, REACHED)
    goal = np.linalg.norm((source - target)[:, :2], axis=1)
    transport = _closed(goal[[0, *range(held[0], len(goal))]], PLACED) if len(held) else 0.0
    wrong = bool(clip.holds("moved_wrong").any()) or _grasps_at_target(clip)
    rating = 0.3 * approach + 0.3 * bool(len(held)) + 0.4 * transport
    return rating * (0.3 if wrong else 1.0) * (0.8 if _dropped(clip) else 1.0), wrong


def _grasps_at_target(clip: Clip) -> bool:
    """Whether the fingers close around the target before they ever held the source."""
    held = np.flatnonzero(clip.holds("grasped"))
    closes = np.flatnonzero((clip.actions[1:, 6] < 0) & (clip.actions[:-1, 6] >= 0)) + 1
    closes = closes[closes <= held[0]] if len(held) else closes
    tip = clip.points("gripper")[closes]
    to_target = np.linalg.norm(tip - clip.points("target")[closes], axis=1)
    to_source = np.linalg.norm(tip - clip.points("source")[closes], axis=1)
    return bool(((to_target < TOUCH) & (to_source > to_target)).any())


def _dropped(clip: Clip) -> bool:
    """Whether the object was held, let go short of its goal and not picked up again."""
    held = np.flatnonzero(clip.holds("grasped"))
    if not len(held) or held[-1] == len(clip.environment) - 1:
        return False
    short = _flat(clip.points("source")[-1] - clip.points("target")[-1]) > CLOSE_BY
    return short and not (clip.holds("on_target")[-1] or clip.holds("success").any())


def _failures(
    clip: Clip, action: float, smooth: float, toggles: int, wrong: bool
) -> tuple[str, ...]:
    held, success = clip.holds("grasped"), clip.holds("success")
    named = {
        "no motion": action == 0,
        "jerky": action > 0 and smooth < 0.25,
        "gripper toggles": toggles > 2,
        "wrong object": wrong,
        "never grasped": not held.any(),
        "dropped": _dropped(clip),
        "too slow": bool(held[-1] and not success.any()),
        "undone": bool(success.any() and not success[-1]),
    }
    return tuple(name for name, holds in named.items() if holds)


def _end(clip: Clip) -> int:
    success = np.flatnonzero(clip.holds("success"))
    count = len(clip.actions)
    return min(count, int(success[0]) + SETTLED) if len(success) else count


def _closed(distances: Floats, there: float) -> float:
    """Share of the way to `there` that was covered at best, from the first distance on."""
    start = float(distances[0]) - there
    if start <= 0:
        return 1.0
    return float(np.clip(1 - (float(distances.min()) - there) / start, 0, 1))


def _flat(vector: Floats) -> float:
    return float(np.linalg.norm(vector[:2]))


def _ten(share: float) -> int:
    return int(np.floor(10 * share + 0.5))
