"""The words annotations are made of: commands taken apart, and templates to put them together.

Tables and pure functions, no data set: what a subtask, a plan, a rewritten command or a situation
sounds like. The vocabulary is small and closed on purpose, because a model of a few million
parameters has to learn every word of it from the pipeline's own data; `sentences` lists all of it
for the tokenizer. Unknown objects of imported data are called what the instruction calls them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from dualvla.conventions import PHASES
from dualvla.objects import BY_NAME, OBJECTS, Object

# Six subtasks: the expert's phases, merged where a picture does not tell them apart.
SUBTASK_OF_PHASE = {
    "reach": "reach",
    "lower": "grasp",
    "grasp": "grasp",
    "lift": "lift",
    "move": "move",
    "place": "place",
    "release": "release",
    "retreat": "release",
}
SUBTASKS = tuple(dict.fromkeys(SUBTASK_OF_PHASE[phase] for phase in PHASES))

# Motion words of the robot base frame: x away from the base, y to its left, z up, turns about z.
DIRECTIONS = (("forward", "backward"), ("left", "right"), ("up", "down"))
TURNS = ("turn left", "turn right")
GRIPPER = {1: "open gripper", -1: "close gripper"}
STILL = "hold still"

ALIASES = {"block": "cube", "cloth": "towel", "yellow basket": "basket"}
KINDS = {  # objects.Object.category as a noun in a command
    "vegetable": "vegetable",
    "cutlery": "utensil",
    "dishes": "dish",
    "toy": "toy",
    "fabric": "cloth",
    "container": "container",
}
INSIDE = ("into", "in", "inside")
UPON = ("on", "onto", "on top of")

# Situations in which a person would want the object, and what is then wanted of the target;
# {colour} is the thing's own.
NEEDS = {
    "carrot": (
        "i want to feed a rabbit its favourite food",
        "a hungry rabbit is waiting for its {colour} snack",
        "i would like something {colour} to eat",
    ),
    "spoon": (
        "i will stir soup soon and need the tool for it",
        "the soup is ready , something {colour} to stir it is missing",
        "i have stirred the soup and want to put the {colour} tool away",
    ),
    "green cube": (
        "a child wants to build a tower",
        "the tower needs something {colour} on its top",
        "we stack toys and the {colour} one is next",
    ),
    "yellow cube": ("the tower needs something {colour} on its top",),
    "eggplant": (
        "i want to cook a stew of the {colour} vegetable",
        "the {colour} vegetable has to be washed",
        "dinner will be a stew of something {colour}",
    ),
}
ENDS = {
    "plate": ("please serve it on the {colour} dish", "get it ready where food is served"),
    "towel": ("please lay it where hands are dried", "it should lie on the {colour} cloth"),
    "yellow cube": ("please use the {colour} toy as the base", "the {colour} toy stays below"),
    "green cube": ("please use the {colour} toy as the base", "the {colour} toy stays below"),
    "basket": ("please collect it in the container", "it should be where dishes are held"),
}

REWRITES = (  # source, target, preposition
    "place the {0} {2} the {1}",
    "set the {0} {2} the {1}",
    "pick up the {0} and put it {2} the {1}",
    "can you put the {0} {2} the {1}",
)
CONTEXTS = (  # for things of which nothing is known
    "someone is looking for the {0} {2} the {1}",
    "the {0} is still missing {2} the {1}",
    "nothing is right until the {0} is {2} the {1}",
)

_COMMAND = re.compile(
    r"(?:please )?(?:put|place|move|stack|set|take|lay|drop|pick up)(?: the| a)? (?P<source>.+?)"
    r" (?P<relation>on top of|onto|on|into|inside|in|to)(?: the| a)? (?P<target>[^,.]+)"
)
_SIMPLE = re.compile(r"(?:please )?[a-z]+(?: up| down)?(?: the| a)? (?P<source>[a-z ]+)")


@dataclass(frozen=True)
class Command:
    """What an instruction asks for; empty words where it does not say."""

    text: str
    source: str  # what is moved
    target: str  # where to
    inside: bool  # whether into it rather than onto it

    @property
    def moved(self) -> str:
        """The moved thing, or `object`."""
        return self.source or "object"

    @property
    def preposition(self) -> str:
        """`in` or `on`."""
        return "in" if self.inside else "on"

    @property
    def things(self) -> tuple[Object | None, Object | None]:
        """Both things, as far as they are known ones."""
        return BY_NAME.get(self.source), BY_NAME.get(self.target)


def parse(instruction: str) -> Command:
    """Take an instruction apart: the moved thing and where it goes, known things by their names."""
    text = " ".join(instruction.lower().split())
    match = _COMMAND.search(text)
    if match:
        source, target = (_name(match[key]) for key in ("source", "target"))
        thing = BY_NAME.get(target)
        inside = thing.category == "container" if thing else match["relation"] in INSIDE
        return Command(text, source, target, inside)
    simple = _SIMPLE.match(text)
    return Command(text, _name(simple["source"]) if simple else "", "", inside=False)


def _name(phrase: str) -> str:
    # "cup from counter or drying rack", "pot upright which is in sink": only the thing itself.
    phrase = re.split(r" (?:from|which|that|and|upright|vertical|horizontal)\b", phrase.strip())[0]
    for alias, name in ALIASES.items():
        phrase = re.sub(rf"\b{alias}\b", name, phrase)
    return phrase.strip()


def subtask(kind: str, command: Command) -> str:
    """A subtask in words.

    Args:
        kind: one of SUBTASKS.
        command: names the things.
    """
    moved, target = command.moved, command.target
    return {
        "reach": f"reach for the {moved}",
        "grasp": f"grasp the {moved}",
        "lift": f"lift the {moved}",
        "move": f"move the {moved} to the {target}" if target else f"move the {moved}",
        "place": f"place the {moved} {command.preposition} the {target}"
        if target
        else f"put down the {moved}",
        "release": f"let go of the {moved}",
    }[kind]


def plan(kinds: Sequence[str], command: Command) -> str:
    """The subtasks of an episode in one line, each once, in the order in which they first come."""
    return " , ".join(subtask(kind, command) for kind in dict.fromkeys(kinds))


@cache
def descriptions(name: str, *, appearance: bool = True) -> tuple[str, ...]:
    """Other words for a thing: `carrot` is also an `orange vegetable`; unknown things have none.

    Only words that fit no other thing of the table. Without `appearance` colour and shape are left
    out: a plate in imported data need not look like ours.
    """
    if name not in BY_NAME:
        return ()
    words = _words(BY_NAME[name], appearance=appearance)
    others = {
        text
        for thing in OBJECTS
        if thing.name != name
        for text in _words(thing, appearance=appearance)
    }
    return tuple(text for text in words if text not in others)


def _words(thing: Object, *, appearance: bool) -> tuple[str, ...]:
    kind, use = KINDS[thing.category], f"thing {thing.use}"
    if not appearance:
        return kind, use
    return f"{thing.colour} {kind}", use, f"{thing.shape} {thing.colour} thing"


def article(name: str) -> str:
    """The thing with `a` or `an`."""
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


@cache
def rewrites(command: Command, *, appearance: bool = True) -> tuple[str, ...]:
    """All other ways to say a command, in a fixed order; see `descriptions` for `appearance`."""
    if not command.source:
        return ()
    if not command.target:
        asked = ("please {0}", "can you {0}", "i would like you to {0}")
        return tuple(form.format(command.text) for form in asked)
    names = (command.source, command.target)
    sources, targets = ((*descriptions(name, appearance=appearance), name) for name in names)
    words = INSIDE if command.inside else UPON
    found = [
        form.format(source, target, word)
        for source, target, form, word in product(sources, targets, REWRITES, words)
    ]
    found += [
        f"the {source} belongs {command.preposition} the {target}"
        for source, target in product(sources, targets)
    ]
    return tuple(text for text in dict.fromkeys(found) if text != command.text)


@cache
def contexts(command: Command, *, appearance: bool = True) -> tuple[str, ...]:
    """Situations that imply a command without giving it, in a fixed order."""
    if not command.source or not command.target:
        return ()
    source, target = command.things
    if source and target and appearance:
        needs = (need.format(colour=source.colour) for need in NEEDS.get(source.name, ()))
        ends = (end.format(colour=target.colour) for end in ENDS.get(target.name, ()))
        found = tuple(f"{need} , {end}" for need, end in product(needs, ends))
        if found:
            return found
    return tuple(
        form.format(command.source, command.target, command.preposition) for form in CONTEXTS
    )


def sentences() -> Iterator[str]:
    """Every annotation sentence about every pair of known things, for a tokenizer."""
    movable = [thing.name for thing in OBJECTS if thing.movable]
    for source, target in product(movable, BY_NAME):
        if source == target:
            continue
        inside = BY_NAME[target].category == "container"
        command = Command(f"put the {source} on the {target}", source, target, inside)
        yield command.text
        yield from (subtask(kind, command) for kind in SUBTASKS)
        yield plan(SUBTASKS, command)
        for appearance in (True, False):
            yield from rewrites(command, appearance=appearance)
            yield from contexts(command, appearance=appearance)
    things = Command("move the object", "object", "", inside=False)
    yield from (subtask(kind, things) for kind in SUBTASKS)
    yield from rewrites(things)
    words = [f"move {a}" for pair in DIRECTIONS for a in pair]
    yield from (*words, *TURNS, *GRIPPER.values(), STILL)
