"""What the robot is told on the instruct starts: data, and what each sentence means.

After SimplerEnv-Instruct (InstructVLA): the four tasks with other things around and instructions in
two splits. `rephrased` says a plain command in other words. `situated` describes source or target
by what has to be known or seen: an attribute, a function, a relation, a negation. The sentences are
our own; a test keeps them out of all that the robot's data says.

A description is a tuple of claims (`objects.CLAIMS`), all of which hold of one thing in the scene
alone, so a start can be drawn and checked without reading English. An empty one means that the
sentence names the thing. `most` picks among several that fit. The price of writing this down by
hand is that a sentence and its claims must agree, which no test can see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualvla.objects import fits

Split = Literal["rephrased", "situated"]
Kind = Literal["rephrasing", "attribute", "function", "relation", "negation"]
Most = Literal["leftmost", "rightmost", "nearest", "farthest"]

MARGIN = 0.06  # share of the picture by which a thing lies further than any other
MOST: dict[Most, tuple[int, int]] = {  # axis of the picture and its direction
    "leftmost": (0, -1),
    "rightmost": (0, 1),
    "nearest": (1, 1),
    "farthest": (1, -1),
}


@dataclass(frozen=True)
class Instruction:
    """One sentence, its task, and how it tells source and target from what else is there."""

    text: str
    task: str
    kind: Kind = "rephrasing"
    source: tuple[str, ...] = ()  # claims; empty: named
    target: tuple[str, ...] = ()
    most: Most | None = None  # which of the things that fit the source's claims; None: the only one
    beside: tuple[str, ...] = ()  # distractors without which the sentence would be no riddle

    @property
    def split(self) -> Split:
        """Which set of starts it belongs to."""
        return "rephrased" if self.kind == "rephrasing" else "situated"

    def allows(self, distractors: tuple[str, ...]) -> bool:
        """Whether it means one source and one target among these; nothing is put on itself."""
        alone = self.source if self.most is None else ()
        return not any(
            claims and matches(name, claims)
            for name in distractors
            for claims in (alone, self.target)
        )

    def picks(self, names: Sequence[str], uv: NDArray[np.float64]) -> bool:
        """Whether the source is the one that `most` picks, by a margin in the picture.

        Args:
            names: source, target, then distractors.
            uv: (n, 2) where they are in the picture, shares of its width and height.
        """
        if self.most is None:
            return True
        axis, sign = MOST[self.most]
        leads = [
            sign * (uv[0, axis] - uv[index, axis]) >= MARGIN
            for index, name in enumerate(names)
            # Without a claim anything may be meant but the target, said to be the place.
            if index and matches(name, self.source) and (self.source or index > 1)
        ]
        return bool(leads) and all(leads)


def matches(name: str, claims: tuple[str, ...]) -> bool:
    """Whether all claims hold of a thing."""
    return all(fits(name, claim) for claim in claims)


INSTRUCTIONS = (
    # Rephrasings of "put carrot on plate".
    Instruction("could you move the carrot over to the plate", "carrot"),
    Instruction("i want the carrot to end up on the plate", "carrot"),
    Instruction("grab the carrot and lay it down on the plate", "carrot"),
    Instruction("the plate is where the carrot should go", "carrot"),
    Instruction("take the carrot from the table and leave it on the plate", "carrot"),
    Instruction("the carrot has to get onto the plate", "carrot"),
    Instruction("move whatever is orange to the plate", "carrot", "attribute", ("is orange",)),
    Instruction(
        "put what a rabbit would eat on the plate",
        "carrot",
        "function",
        ("is eaten by a rabbit",),
        beside=("eggplant",),
    ),
    Instruction(
        "what grows under the ground goes on the plate",
        "carrot",
        "function",
        ("grows under the ground",),
    ),
    Instruction(
        "put the carrot on what carries a slice of cake",
        "carrot",
        "function",
        target=("carries a slice of cake",),
        beside=("towel",),
    ),
    Instruction(
        "put the leftmost vegetable on the plate",
        "carrot",
        "relation",
        ("is a vegetable",),
        most="leftmost",
        beside=("eggplant",),
    ),
    Instruction(
        "put the vegetable that is not purple on the plate",
        "carrot",
        "negation",
        ("is a vegetable", "is not purple"),
        beside=("eggplant",),
    ),
    # Rephrasings of "put the spoon on the towel".
    Instruction("could you lay the spoon down on the towel", "spoon"),
    Instruction("i want the spoon to end up on the towel", "spoon"),
    Instruction("grab the spoon and bring it over to the towel", "spoon"),
    Instruction("the towel is where the spoon should go", "spoon"),
    Instruction("take the spoon from the table and leave it on the towel", "spoon"),
    Instruction("the spoon has to get onto the towel", "spoon"),
    Instruction(
        "move the long green object to the blue one",
        "spoon",
        "attribute",
        ("is long", "is green"),
        ("is blue",),
        beside=("green cube",),
    ),
    Instruction(
        "put what scoops ice cream on the towel", "spoon", "function", ("scoops ice cream",)
    ),
    Instruction(
        "what is kept with forks goes on the towel", "spoon", "function", ("is kept with forks",)
    ),
    Instruction(
        "put the spoon on what soaks up spilled water",
        "spoon",
        "function",
        target=("soaks up spilled water",),
        beside=("plate",),
    ),
    Instruction(
        "put the rightmost green object on the towel",
        "spoon",
        "relation",
        ("is green",),
        most="rightmost",
        beside=("green cube",),
    ),
    Instruction(
        "put the green object that is not a toy on the towel",
        "spoon",
        "negation",
        ("is green", "is not a toy"),
        beside=("green cube",),
    ),
    # Rephrasings of "stack the green block on the yellow block".
    Instruction("could you build a tower with the green block above the yellow block", "stack"),
    Instruction("i want the green block to end up on the yellow block", "stack"),
    Instruction("grab the green block and bring it onto the yellow block", "stack"),
    Instruction("the yellow block is where the green block should go", "stack"),
    Instruction("take the green block and leave it on top of the yellow block", "stack"),
    Instruction("the yellow block should carry the green block", "stack"),
    Instruction(
        "stack the square green object on the square yellow one",
        "stack",
        "attribute",
        ("is square", "is green"),
        ("is square", "is yellow"),
        beside=("spoon", "plate"),
    ),
    Instruction(
        "put the green object that has six faces on the yellow one that has six faces",
        "stack",
        "function",
        ("is green", "has six faces"),
        ("is yellow", "has six faces"),
        beside=("plate",),
    ),
    Instruction(
        "put the green one of what a child plays with on the yellow one",
        "stack",
        "function",
        ("is green", "is what a child plays with"),
        ("is yellow", "is what a child plays with"),
        beside=("spoon",),
    ),
    Instruction(
        "stack the rightmost block on the other block",
        "stack",
        "relation",
        ("is a cube",),
        ("is a cube",),
        most="rightmost",
    ),
    Instruction(
        "stack the block that is not yellow on the other block",
        "stack",
        "negation",
        ("is a cube", "is not yellow"),
        ("is a cube",),
    ),
    Instruction(
        "put a toy on the toy that is not green",
        "stack",
        "negation",
        ("is a toy",),
        ("is a toy", "is not green"),
    ),
    # Rephrasings of "put eggplant into yellow basket".
    Instruction("could you move the eggplant over to the basket", "eggplant"),
    Instruction("i want the eggplant to end up in the basket", "eggplant"),
    Instruction("grab the eggplant and drop it into the basket", "eggplant"),
    Instruction("the basket is where the eggplant should go", "eggplant"),
    Instruction("take the eggplant from the sink and leave it in the basket", "eggplant"),
    Instruction("the eggplant has to get out of the sink and into the basket", "eggplant"),
    Instruction("move whatever is purple to the basket", "eggplant", "attribute", ("is purple",)),
    Instruction("put what can be eaten into the basket", "eggplant", "function", ("can be eaten",)),
    Instruction(
        "what is fried in slices goes into the basket",
        "eggplant",
        "function",
        ("is fried in slices",),
    ),
    Instruction(
        "put the eggplant into what lets water drip off",
        "eggplant",
        "function",
        target=("lets water drip off",),
    ),
    Instruction(
        "put the leftmost object of the sink into the basket",
        "eggplant",
        "relation",
        most="leftmost",
    ),
    Instruction(
        "put the object that is not a toy into the basket",
        "eggplant",
        "negation",
        ("is not a toy",),
    ),
)
BY_TEXT = {one.text: one for one in INSTRUCTIONS}


def of(task: str, split: Split) -> tuple[Instruction, ...]:
    """A task's instructions of a split, in a fixed order."""
    return tuple(one for one in INSTRUCTIONS if one.task == task and one.split == split)
