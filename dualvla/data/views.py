"""A rendered scene as questions see it: what is plain to see, and how things lie to each other.

Directions are the camera's: left and right by u, nearer and farther by v, among things that rest on
the table or in the sink. Positions are whole percent of image width and height. The thresholds
leave out what a person would have to guess; a scene answers fewer questions for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from dualvla.objects import BY_NAME, Object
from dualvla.simulation.scenes import Scene
from dualvla.simulation.studio import Label

SEEN = 0.4  # visible share from which a thing is asked about
GRIPPER_SEEN = 0.3
MARGIN = 0.06  # share of the image by which two things differ to be left, right, near or far

# Directions: words, and by how much one thing lies further that way than another.
SIDES: dict[str, Callable[[Label, Label], float]] = {
    "left of": lambda one, other: other.u - one.u,
    "right of": lambda one, other: one.u - other.u,
    "nearer than": lambda one, other: one.v - other.v,
    "farther than": lambda one, other: other.v - one.v,
}
MOST = {
    "leftmost": "left of",
    "rightmost": "right of",
    "nearest": "nearer than",
    "farthest": "farther than",
}

# What several objects have in common: words for a count, and who counts.
CLASSES: dict[str, Callable[[Object], bool]] = {
    "cubes": lambda thing: thing.name.endswith("cube"),
    "vegetables": lambda thing: thing.category == "vegetable",
    "green objects": lambda thing: thing.colour == "green",
    "long objects": lambda thing: thing.shape == "long",
    "movable objects": lambda thing: thing.movable,
}

OBJECT = "object"
# What one thing is asked for among.
NOUNS: dict[str, Callable[[Object], bool]] = {
    OBJECT: lambda _: True,
    "cube": CLASSES["cubes"],
    "vegetable": CLASSES["vegetables"],
    "green object": CLASSES["green objects"],
    "movable object": CLASSES["movable objects"],
}


@dataclass(frozen=True)
class View:
    """A scene as the questions see it."""

    scene: Scene
    shown: dict[str, Label] = field(init=False)  # objects that are plain to see
    present: frozenset[str] = field(init=False)  # all objects, seen or not
    gripper: Label | None = field(init=False)  # where it is plain to see

    def __post_init__(self) -> None:
        objects = [label for label in self.scene.labels if label.object in BY_NAME]
        shown = {label.object: label for label in objects if _plain(label, SEEN)}
        grippers = [label for label in self.scene.labels if label.object == "gripper"]
        seen = [label for label in grippers if _plain(label, GRIPPER_SEEN)]
        object.__setattr__(self, "shown", shown)
        object.__setattr__(self, "present", frozenset(label.object for label in objects))
        object.__setattr__(self, "gripper", seen[0] if seen else None)

    @property
    def resting(self) -> dict[str, Label]:
        """Objects plain to see that stand on the table or in the sink itself."""
        raised = {self.scene.held, self.scene.placed[0] if self.scene.placed else None}
        return {name: label for name, label in self.shown.items() if name not in raised}

    @property
    def hidden(self) -> frozenset[str]:
        """Objects in the scene that are not plain to see."""
        return self.present - set(self.shown)

    def members(self, noun: str) -> list[str]:
        """Names of the objects, seen or not, that a noun of `NOUNS` means."""
        return [name for name in sorted(self.present) if NOUNS[noun](BY_NAME[name])]

    def along(self, words: str) -> list[Label]:
        """Things that `SIDES` compares: depth is plain only among those that stand on one plane."""
        level = words in ("nearer than", "farther than")
        return list((self.resting if level else self.shown).values())


def percent(label: Label) -> str:
    """Position as `34 60`: whole percent of image width and height."""
    return f"{round(100 * label.u)} {round(100 * label.v)}"


def _plain(label: Label, least: float) -> bool:
    return label.visible >= least and 0 <= label.u <= 1 and 0 <= label.v <= 1
