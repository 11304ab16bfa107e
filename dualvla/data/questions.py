"""One visual question of each kind: a template over a view's labels, with its exact short answer.

Two rules keep them honest. A question is asked only if its answer is plain to see: the things it
names are visible, and left, right, near and far differ by a margin. And the wanted answer is drawn
before the question, so that yes and no are equally likely and neither wording nor the objects named
give the answer away. A kind that a scene has no question of returns None.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualvla.data.views import (
    CLASSES,
    MARGIN,
    MOST,
    NOUNS,
    OBJECT,
    SIDES,
    View,
    percent,
)
from dualvla.objects import BY_NAME, CLAIMS, DENIABLE, OBJECTS, Object, fits

CROWDED = 0.11  # share of the image within which a second thing makes a position ambiguous
OPEN, CLOSED = 0.8, 0.2  # gripper openings from which the words are plain
EMPTY_SHARE = 0.25  # of the scenes with an empty gripper that may ask what it holds


@dataclass(frozen=True)
class Question:
    """One question about one scene."""

    kind: str
    text: str
    answer: str


def _colour(view: View, rng: np.random.Generator) -> Question | None:
    """By name it is common knowledge, by place it has to be seen."""
    if _coin(rng):
        found = _extreme(view, rng)
        if found is None:
            return None
        most, name = found
        return Question("colour", f"what colour is the {most} object?", BY_NAME[name].colour)
    named = [name for name in view.shown if BY_NAME[name].colour not in name]
    if not named:
        return None
    name = _pick(rng, named)
    return Question("colour", f"what colour is the {name}?", BY_NAME[name].colour)


def _count(view: View, rng: np.random.Generator) -> Question | None:
    counts = {
        words: sum(counted(BY_NAME[name]) for name in view.shown)
        for words, counted in CLASSES.items()
        if not any(counted(BY_NAME[name]) for name in view.hidden)
    }
    several = [words for words, count in counts.items() if count > 1]
    options = several if several and _coin(rng) else list(counts)  # most counts are 0 or 1
    if not options:
        return None
    words = _pick(rng, options)
    return Question("count", f"how many {words} are there?", str(counts[words]))


def _existence(view: View, rng: np.random.Generator) -> Question | None:
    absent = [thing.name for thing in OBJECTS if thing.name not in view.present]
    if not view.shown or not absent:
        return None
    wanted = _coin(rng)
    name = _pick(rng, list(view.shown) if wanted else absent)
    article = "an" if name[0] in "aeiou" else "a"
    return Question("existence", f"is there {article} {name}?", _yes(wanted))


def _relation(view: View, rng: np.random.Generator) -> Question | None:
    """Is one thing left of another?"""
    words, wanted = _pick(rng, list(SIDES)), _coin(rng)
    things = view.along(words)
    pairs = [
        (one.object, other.object)
        for one in things
        for other in things
        if SIDES[words](one, other) * (1 if wanted else -1) >= MARGIN
    ]
    if not pairs:
        return None
    one, other = _pick(rng, pairs)
    return Question("relation", f"is the {one} {words} the {other}?", _yes(wanted))


def _neighbour(view: View, rng: np.random.Generator) -> Question | None:
    """Which object is left of another? Only where that is exactly one."""
    words = _pick(rng, list(SIDES))
    things, side = view.along(words), SIDES[words]
    if view.hidden:
        return None
    options = []
    for other in things:
        rest = [one for one in view.shown.values() if one is not other]
        there = [one for one in rest if side(one, other) > -MARGIN]
        if len(there) == 1 and side(there[0], other) >= MARGIN and there[0] in things:
            options.append((there[0].object, other.object))
    if not options:
        return None
    one, other_name = _pick(rng, options)
    return Question("neighbour", f"which object is {words} the {other_name}?", one)


def _most(view: View, rng: np.random.Generator) -> Question | None:
    noun = _noun(view, rng)
    found = _extreme(view, rng, noun)
    if found is None:
        return None
    return Question("extreme", f"which {noun} is the {found[0]}?", found[1])


def _position(view: View, rng: np.random.Generator) -> Question | None:
    things = [view.shown[name] for name in _moving(rng, list(view.shown))]
    if view.gripper is not None and (not things or rng.random() < 0.25):
        things = [view.gripper]
    if not things:
        return None
    label = _pick(rng, things)
    return Question("position", f"where is the {label.object}?", percent(label))


def _grounding(view: View, rng: np.random.Generator) -> Question | None:
    """Where is the thing that a description fits; exactly one of the scene's."""
    options = []
    for name in _moving(rng, list(view.shown)):
        for words, holds in _descriptions(BY_NAME[name]):
            if sum(holds(BY_NAME[other]) for other in view.present) == 1:
                options.append((words, view.shown[name]))
    if not options:
        return None
    words, label = _pick(rng, options)
    return Question("grounding", f"where is the {words}?", percent(label))


def _descriptions(thing: Object) -> list[tuple[str, Callable[[Object], bool]]]:
    colour, shape, category, use = thing.colour, thing.shape, thing.category, thing.use
    found: list[tuple[str, Callable[[Object], bool]]] = [
        (f"{colour} object", lambda other: other.colour == colour),
        (f"{shape} {colour} object", lambda o: (o.shape, o.colour) == (shape, colour)),
        (f"object {use}", lambda other: other.use == use),
    ]
    if category in ("vegetable", "toy"):
        found.append(
            (f"{colour} {category}", lambda o: (o.category, o.colour) == (category, colour))
        )
    return found


def _point(view: View, rng: np.random.Generator) -> Question | None:
    """What is at a position; where nothing else is near it."""
    centres = [label for label in view.scene.labels if label.object in BY_NAME]
    options = [
        label
        for label in view.shown.values()
        if all(
            np.hypot(label.u - other.u, label.v - other.v) > CROWDED
            for other in centres
            if other is not label
        )
    ]
    if not options:
        return None
    name = _pick(rng, _moving(rng, [label.object for label in options]))
    label = view.shown[name]
    if rng.random() < 0.25:
        colour = BY_NAME[label.object].colour
        return Question("colour", f"what colour is the object at {percent(label)}?", colour)
    return Question("point", f"what is at {percent(label)}?", label.object)


def _knowledge(view: View, rng: np.random.Generator) -> Question | None:
    """Which object is a vegetable, or which cube is green; exactly one of the scene's."""
    noun = _noun(view, rng)
    members = view.members(noun)
    options = {
        name: [claim for claim in CLAIMS if _alone(name, claim, members)]
        for name in _moving(rng, [name for name in view.shown if name in members])
    }
    return _which("knowledge", noun, options, rng)


def _negation(view: View, rng: np.random.Generator) -> Question | None:
    """Which object, cube or vegetable is not something; exactly one of at least two."""
    noun = _noun(view, rng)
    members = view.members(noun)
    denials = [claim.replace("is ", "is not ", 1) for claim in DENIABLE]
    options = {
        name: [denial for denial in denials if _alone(name, denial, members)]
        for name in members
        if len(members) > 1 and name in view.shown
    }
    return _which("negation", noun, options, rng)


def _which(
    kind: str, noun: str, options: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> Question | None:
    """Which one a claim holds of; `options` has the claims that hold of one name alone."""
    names = [name for name, claims in options.items() if claims]
    if not names:
        return None
    name = _pick(rng, names)
    return Question(kind, f"which {noun} {_pick(rng, options[name])}?", name)


def _shape(view: View, rng: np.random.Generator) -> Question | None:
    if not view.shown:
        return None
    name = _pick(rng, list(view.shown))
    return Question("shape", f"what shape is the {name}?", BY_NAME[name].shape)


def _alone(name: str, claim: str, among: Collection[str]) -> bool:
    """Whether a claim holds of this thing and of no other one."""
    return fits(name, claim) and sum(fits(other, claim) for other in among) == 1


def _holding(view: View, rng: np.random.Generator) -> Question | None:
    held = view.scene.held
    if view.gripper is None or (held is not None and held not in view.shown):
        return None
    if held is None and rng.random() > EMPTY_SHARE:
        return None
    return Question("holding", "what is the gripper holding?", held or "nothing")


def _gripper(view: View, rng: np.random.Generator) -> Question | None:
    opening = view.scene.opening
    if view.gripper is None or CLOSED < opening < OPEN:
        return None
    # Open is far more common; ask seldom then, so that the answer is not known beforehand.
    if opening >= OPEN and rng.random() > 0.15:
        return None
    word = "open" if opening >= OPEN else "closed"
    return Question("gripper", "is the gripper open or closed?", word)


def _support(view: View, rng: np.random.Generator) -> Question | None:
    """What lies on a plate, towel or cube, or in the basket."""
    placed = view.scene.placed
    if placed is not None and set(placed) <= set(view.shown):
        name, over = placed
    else:
        empty = [name for name in view.shown if not BY_NAME[name].movable]
        held_over = {view.scene.held} & set(view.shown)
        if placed is not None or not empty or held_over or rng.random() > 0.4:
            return None
        name, over = "nothing", _pick(rng, empty)
    if over == "basket":
        return Question("support", "what is in the basket?", name)
    return Question("support", f"what is on the {over}?", name)


def _caption(view: View, _: np.random.Generator) -> Question | None:
    """One sentence: what there is from left to right, and what is going on."""
    if not view.shown or view.hidden:
        return None
    ordered = sorted(view.shown.values(), key=lambda label: label.u)
    names = [f"{'an' if x.object[0] in 'aeiou' else 'a'} {x.object}" for x in ordered]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    sentence = f"{listed} {'on a table' if view.scene.setting == 'table' else 'in a sink'}"
    held, placed = view.scene.held, view.scene.placed
    if held is not None:
        sentence += f", the gripper holds the {held}"
    elif placed is not None:
        where = "in" if placed[1] == "basket" else "on"
        sentence += f", the {placed[0]} lies {where} the {placed[1]}"
    return Question("caption", "describe the scene.", sentence)


def _extreme(view: View, rng: np.random.Generator, noun: str = OBJECT) -> tuple[str, str] | None:
    """A word such as leftmost and the object, or cube, it means, by a margin."""
    most = _pick(rng, list(MOST))
    side, members = SIDES[MOST[most]], view.members(noun)
    things = [label for label in view.along(MOST[most]) if label.object in members]
    if len(things) < max(2, len(members)):
        return None
    for one in things:
        if all(side(one, other) >= MARGIN for other in things if other is not one):
            return most, one.object
    return None


def _noun(view: View, rng: np.random.Generator) -> str:
    """What to ask among: half of the time a class of which several are there, if any is."""
    several = [noun for noun in NOUNS if noun != OBJECT and len(view.members(noun)) > 1]
    return _pick(rng, several) if several and _coin(rng) else OBJECT


def _pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def _moving(rng: np.random.Generator, names: Sequence[str]) -> list[str]:
    """Mostly without the basket, which is always at the same place."""
    others = [name for name in names if name != "basket"]
    return others if others and rng.random() < 0.8 else list(names)


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.5)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


# Weight of each kind among the questions of a scene, and who asks it.
KINDS: dict[str, tuple[float, Callable[[View, np.random.Generator], Question | None]]] = {
    "position": (2.0, _position),
    "relation": (1.5, _relation),
    "existence": (1.2, _existence),
    "point": (1.2, _point),
    "grounding": (1.2, _grounding),
    "holding": (1.5, _holding),
    "knowledge": (1.5, _knowledge),
    "negation": (1.0, _negation),
    "count": (1.0, _count),
    "colour": (0.8, _colour),
    "shape": (0.4, _shape),
    "extreme": (0.8, _most),
    "neighbour": (0.8, _neighbour),
    "support": (0.8, _support),
    "gripper": (0.5, _gripper),
    "caption": (0.5, _caption),
}
