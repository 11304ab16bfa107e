"""Faults planted in a trajectory: each spoils one thing, and should lower one dimension.

A judge is worth its ratings only if it sees a fault that is known to be there. Pictures stay as
they are, so for a judge that looks, a fault is a contradiction between what it sees and what it is
told. Faults are drawn from the trajectory's own key: the same one always gets the same fault.

The wrong object is planted by commanding the opposite: what was moved counts as the goal, and what
stayed as the thing to move. Texts are changed word by word and stay fluent.
"""

import dataclasses
import re
import zlib
from collections.abc import Callable

import numpy as np

from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.evaluation.judges import Clip
from dualvla.evaluation.judging.cases import Case

AXES = ("x", "y", "z", "qw", "qx", "qy", "qz", "u", "v")
OPPOSITE = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "forward": "backward",
    "backward": "forward",
    "open": "close",
    "close": "open",
    "still": "forward",
}

_AT = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}
_MOVE = re.compile(r"(?<=move: )[^;]*")
_SUBTASK = re.compile(r"(?<=subtask: )[^;]*?(?= ?(?:;|$))")
_PLACE = re.compile(r"(?<= at )(\d{1,3}) (\d{1,3})\b")


def shuffled_actions(case: Case) -> Case:
    """The same commands in another order."""
    order = np.random.default_rng(_seed(case)).permutation(len(case.clip.actions))
    return _with(case, actions=case.clip.actions[order])


def contradicting_text(case: Case) -> Case:
    """Every direction and gripper command said is the opposite of what follows."""
    words = re.compile(rf"\b({'|'.join(OPPOSITE)})\b")

    def turned(text: str) -> str:
        return words.sub(lambda found: OPPOSITE[found.group()], text)

    def change(text: str) -> str:
        # Only the clause of the motion where there is one: the rest stays true.
        if _MOVE.search(text):
            return _MOVE.sub(lambda found: turned(found.group()), text)
        return turned(text)

    return _retold(case, change)


def wrong_positions(case: Case) -> Case:
    """Every position said is half a picture off in both directions."""

    def moved(found: re.Match[str]) -> str:
        u, v = (str((int(value) + 50) % 100) for value in found.groups())
        return f"{u} {v}"

    return _retold(case, lambda text: _PLACE.sub(moved, text))


def wrong_subtask(case: Case) -> Case:
    """Subtasks are said in the reverse order of time; motions and positions stay true."""
    said = [text for text in case.clip.texts if text is not None]
    found = [match.group() if (match := _SUBTASK.search(text)) else None for text in said]
    others = iter(reversed(found))

    def change(text: str) -> str:
        other = next(others)
        return text if other is None else _SUBTASK.sub(lambda _: other, text)

    return _retold(case, change)


def wrong_object(case: Case) -> Case:
    """The command asks for the thing that stayed to be put on the one that was moved."""
    clip = case.clip
    environment = clip.environment.copy()
    for axis in AXES:
        one, other = _AT[f"source.{axis}"], _AT[f"target.{axis}"]
        environment[:, [one, other]] = clip.environment[:, [other, one]]
    # As the simulator would have it: held and moved was what should have stayed.
    ever_held = np.maximum.accumulate(clip.environment[:, _AT["grasped"]])
    environment[:, [_AT[name] for name in ("grasped", "on_target", "success")]] = 0
    environment[:, _AT["moved_wrong"]] = ever_held
    swapped = _with(case, environment=environment, source=clip.target, target=clip.source)
    command = f"put the {clip.target} on the {clip.source}"
    return dataclasses.replace(swapped, instruction=command, success=False)


# Fault -> dimension it should lower, and how it is planted.
FAULTS: dict[str, tuple[str, Callable[[Case], Case]]] = {
    "shuffled actions": ("action", shuffled_actions),
    "contradicting text": ("alignment", contradicting_text),
    "wrong positions": ("reasoning", wrong_positions),
    "wrong subtask": ("reasoning", wrong_subtask),
    "wrong object": ("intention", wrong_object),
}


def plant(fault: str, case: Case) -> Case | None:
    """A case with a fault of `FAULTS`; None where there is nothing to spoil."""
    faulty = FAULTS[fault][1](case)
    one, other = case.clip, faulty.clip
    changed = (
        one.texts != other.texts
        or one.source != other.source
        or not np.array_equal(one.actions, other.actions)
    )
    return faulty if changed else None


def _retold(case: Case, change: Callable[[str], str]) -> Case:
    texts = tuple(None if text is None else change(text) for text in case.clip.texts)
    return _with(case, texts=texts)


def _with(case: Case, **changes: object) -> Case:
    clip: Clip = dataclasses.replace(case.clip, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(case, clip=clip)


def _seed(case: Case) -> int:
    return zlib.crc32("/".join(case.key).encode())
