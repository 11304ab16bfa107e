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

# Situations in which a person would want the object, and what is then wanted of the target.
NEEDS = {
    "carrot": (
        "i want to feed a rabbit its favourite food",
        "a hungry rabbit is waiting for its orange snack",
        "i would like something orange to eat",
    ),
    "spoon": (
        "i will stir soup soon and need the tool for it",
        "the soup is ready , something green to stir it is missing",
        "i have stirred the soup and want to put the tool away",
    ),
    "green cube": (
        "a child wants to build a tower",
        "the tower needs something green on its top",
        "we stack toys and the green one is next",
    ),
    "yellow cube": ("the tower needs something yellow",),
    "eggplant": (
        "i want to cook a stew of the purple vegetable",
        "the purple vegetable has to be washed",
        "dinner will be a stew of something purple",
    ),
}
ENDS = {
    "plate": ("please serve it on the white dish", "get it ready where food is served"),
    "towel": ("please lay it where hands are dried", "it should lie on the blue cloth"),
    "yellow cube": ("please use the yellow toy as the base", "the yellow toy stays below"),
    "green cube": ("the green toy stays below",),
    "basket": ("please collect it in the container", "it should be where dishes are held"),
}

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


def descriptions(name: str) -> tuple[str, ...]:
    """Other words for a thing: `carrot` is also an `orange vegetable`; unknown things have none."""
    thing = BY_NAME.get(name)
    if thing is None:
        return ()
    kind = KINDS[thing.category]
    return (f"{thing.colour} {kind}", f"thing {thing.use}", f"{thing.shape} {thing.colour} thing")


def prepositions(command: Command) -> tuple[str, ...]:
    """Words for where a thing goes."""
    return INSIDE if command.inside else UPON


def article(name: str) -> str:
    """The thing with `a` or `an`."""
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


@cache
def rewrites(command: Command) -> tuple[str, ...]:
    """All other ways to say a command, in a fixed order; the first ones name things differently."""
    if not command.source:
        return ()
    if not command.target:
        asked = ("please {0}", "can you {0}", "i would like you to {0}")
        return tuple(form.format(command.text) for form in asked)
    sources = (*descriptions(command.source), command.source)
    targets = (*descriptions(command.target), command.target)
    forms = (
        "place the {0} {2} the {1}",
        "set the {0} {2} the {1}",
        "pick up the {0} and put it {2} the {1}",
        "can you move the {0} {2} the {1}",
        "the {0} belongs {2} the {1}",
    )
    found = (
        form.format(source, target, word)
        for source, target, form, word in product(sources, targets, forms, prepositions(command))
    )
    return tuple(text for text in dict.fromkeys(found) if text != command.text)


@cache
def contexts(command: Command) -> tuple[str, ...]:
    """Situations that imply a command without giving it, in a fixed order."""
    if not command.source or not command.target:
        return ()
    needs, ends = NEEDS.get(command.source), ENDS.get(command.target)
    if needs and ends:
        return tuple(f"{need} , {end}" for need, end in product(needs, ends))
    word = command.preposition
    return (
        f"someone is looking for the {command.source} {word} the {command.target}",
        f"the {command.source} is still missing {word} the {command.target}",
        f"nothing is right until the {command.source} is {word} the {command.target}",
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
        yield from rewrites(command)
        yield from contexts(command)
    things = Command("move the object", "object", "", inside=False)
    yield from (subtask(kind, things) for kind in SUBTASKS)
    yield from rewrites(things)
    words = [f"move {a}" for pair in DIRECTIONS for a in pair]
    yield from (*words, *TURNS, *GRIPPER.values(), STILL)
