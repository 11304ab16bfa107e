"""What a reasoning text claims: a subtask, a motion, where things are.

Texts come from the annotations (`subtask: grasp the carrot ; move: down ; carrot at 34 60`), from a
model trained on them, which may garble the form, or from another model's free prose. One tolerant
parser serves all: it looks for known words and for "THING at U V", and a text without any claim is
simply empty. It never guesses, so a claim made in words not listed here is missed, not misread.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualvla.objects import SLOTS

# First word of a subtask -> conventions.PHASES it may mean.
VERBS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("reach", "approach", "find", "locate", "align"), frozenset({"reach"})),
    **dict.fromkeys(("grasp", "grip", "grab", "pick", "take"), frozenset({"lower", "grasp"})),
    **dict.fromkeys(("lift", "raise"), frozenset({"lift"})),
    **dict.fromkeys(("move", "carry", "bring", "transport"), frozenset({"move"})),
    **dict.fromkeys(("place", "put", "set", "stack"), frozenset({"place", "release"})),
    **dict.fromkeys(("release", "let", "drop", "open"), frozenset({"release", "retreat"})),
    **dict.fromkeys(("retreat", "done", "finish", "finished", "withdraw"), frozenset({"retreat"})),
    "lower": frozenset({"lower", "place"}),
    "close": frozenset({"grasp"}),
}
# "move to the carrot" before it is held is an approach; after it, transport.
TRAVEL = frozenset({"reach", "move"})

# Robot base frame: x forward, y left, z up.
DIRECTIONS: dict[str, tuple[int, int, int]] = {
    "forward": (1, 0, 0),
    "forwards": (1, 0, 0),
    "backward": (-1, 0, 0),
    "backwards": (-1, 0, 0),
    "back": (-1, 0, 0),
    "left": (0, 1, 0),
    "right": (0, -1, 0),
    "up": (0, 0, 1),
    "upward": (0, 0, 1),
    "upwards": (0, 0, 1),
    "down": (0, 0, -1),
    "downward": (0, 0, -1),
    "downwards": (0, 0, -1),
}
STILL = frozenset({"still", "stop", "stay", "wait", "hold", "none"})
SYNONYMS = {"block": "cube", "cloth": "towel", "tablecloth": "towel", "dish": "plate"}

_THINGS = sorted(SLOTS, key=len, reverse=True)
_THING = "|".join(re.escape(name) for name in _THINGS)
_PLACE = re.compile(rf"\b({_THING}|[a-z]+) at \(?(\d{{1,3}})[ ,]+(\d{{1,3}})\b")


@dataclass(frozen=True)
class Claims:
    """What one text says; empty parts are not claimed."""

    phases: frozenset[str] = frozenset()  # conventions.PHASES the subtask may mean
    things: tuple[str, ...] = ()  # objects.SLOTS named in the subtask, in order
    direction: tuple[int, int, int] | None = None  # base frame, sum of the directions said
    turn: int = 0  # +1 left (counter-clockwise from above), -1 right
    still: bool = False  # said that the arm stays
    gripper: str | None = None  # "open" or "close"
    places: dict[str, tuple[float, float]] = field(default_factory=dict)  # u, v in [0, 1]

    @property
    def empty(self) -> bool:
        """Whether nothing is claimed that can be checked."""
        return not (self.phases or self.places or self.moves)

    @property
    def moves(self) -> bool:
        """Whether a motion is claimed."""
        return bool(self.direction or self.turn or self.still or self.gripper)

    def vector(self) -> NDArray[np.float64]:
        """The direction as a unit vector; zeros without one."""
        vector = np.asarray(self.direction or (0, 0, 0), np.float64)
        length = float(np.linalg.norm(vector))
        return vector / length if length else vector


def claims(text: str | None) -> Claims:
    """Read a reasoning text; free text is searched for the same words.

    Args:
        text: in any case; positions are percent of image width and height.
    """
    words = " ".join((text or "").lower().split())
    for word, meant in SYNONYMS.items():
        words = re.sub(rf"\b{word}\b", meant, words)
    places = {name: (int(u) / 100, int(v) / 100) for name, u, v in _PLACE.findall(words)}
    rest = _PLACE.sub(" ", words)
    move = _clause(rest, "move")
    subtask = _clause(rest, "subtask")
    if subtask is None:
        # Prose: what is not the move clause says what is done.
        subtask = re.sub(r"\bmove ?:[^;.]*", " ", rest)
    motion = _motion(subtask if move is None else move)
    phases, things = _subtask(subtask)
    return Claims(phases, things, places=places, **motion)


def _clause(text: str, name: str) -> str | None:
    found = re.search(rf"\b{name} ?: ?([^;.]*)", text)
    return found.group(1) if found else None


def _motion(clause: str) -> dict[str, Any]:
    turned = re.findall(r"\b(?:turn|rotate) (left|right)\b", clause)
    words = re.findall(r"[a-z]+", re.sub(r"\b(?:turn|rotate) (?:left|right)\b", " ", clause))
    total = np.sum(
        [DIRECTIONS[word] for word in words if word in DIRECTIONS] or [(0, 0, 0)], axis=0
    )
    direction = (int(total[0]), int(total[1]), int(total[2])) if total.any() else None
    gripper = None
    if "gripper" in words or "fingers" in words:
        gripper = next((word for word in words if word in ("open", "close")), None)
    silent = direction is None and gripper is None and not turned
    return {
        "direction": direction,
        "turn": {"left": 1, "right": -1}[turned[0]] if turned else 0,
        "still": silent and bool(STILL & set(words)),
        "gripper": gripper,
    }


def _subtask(clause: str) -> tuple[frozenset[str], tuple[str, ...]]:
    words = re.findall(r"[a-z]+", clause)
    verb = next((word for word in words if word in VERBS), None)
    phases = VERBS[verb] if verb else frozenset()
    things = tuple(dict.fromkeys(re.findall(rf"\b({_THING})\b", clause)))
    if verb == "move" and re.search(r"\bmove (to|towards?|above|over)\b", clause):
        phases = TRAVEL
    return phases, tuple(thing for thing in things if thing != "gripper")
