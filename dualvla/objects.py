"""The things in the scenes: what they are called, what they are made as, what is known of them.

One table feeds the asset pack, the annotations, the generated questions and the rule judge, so that
a colour is the same word everywhere. `model` is the folder name ManiSkill's Bridge tasks expect.

What is known of a thing is also kept as claims, sentences without a subject that hold of some
things and not of others: `is orange`, `grows under the ground`. Questions ask them and instructions
of the situated starts rest on them, so that a test can show that the one teaches what the other
needs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Object:
    """One kind of thing: words for it and common knowledge about it."""

    name: str  # as in instructions
    model: str  # asset folder
    colour: str
    shape: str
    category: str  # vegetable, cutlery, dishes, toy, fabric, container
    use: str  # what a person does with it
    movable: bool


OBJECTS = (
    Object(
        "carrot",
        "bridge_carrot_generated_modified",
        "orange",
        "long",
        "vegetable",
        "eaten by a rabbit",
        True,
    ),
    Object(
        "spoon",
        "bridge_spoon_generated_modified",
        "green",
        "long",
        "cutlery",
        "used to stir soup",
        True,
    ),
    Object(
        "green cube",
        "baked_green_cube_3cm",
        "green",
        "square",
        "toy",
        "used to build a tower",
        True,
    ),
    Object(
        "yellow cube",
        "baked_yellow_cube_3cm",
        "yellow",
        "square",
        "toy",
        "used to build a tower",
        True,
    ),
    Object("eggplant", "eggplant", "purple", "long", "vegetable", "cooked in a stew", True),
    Object(
        "plate",
        "bridge_plate_objaverse_larger",
        "yellow",
        "round",
        "dishes",
        "used to serve food",
        False,
    ),
    Object(
        "towel",
        "table_cloth_generated_shorter",
        "blue",
        "square",
        "fabric",
        "used to dry hands",
        False,
    ),
    Object(
        "basket",
        "dummy_sink_target_plane",
        "yellow",
        "square",
        "container",
        "used to hold dishes",
        False,
    ),
)

BY_NAME = {thing.name: thing for thing in OBJECTS}
BY_MODEL = {thing.model: thing for thing in OBJECTS}

# Knowledge beyond the table, and of which things it is true. Nothing a robot is taught says it: the
# generated questions alone do.
FACTS: dict[str, frozenset[str]] = {
    "grows under the ground": frozenset({"carrot"}),
    "is good for the eyes": frozenset({"carrot"}),
    "belongs in a snowman's face": frozenset({"carrot"}),
    "grows in the sun": frozenset({"eggplant"}),
    "is fried in slices": frozenset({"eggplant"}),
    "can be eaten": frozenset({"carrot", "eggplant"}),
    "comes from a garden": frozenset({"carrot", "eggplant"}),
    "scoops ice cream": frozenset({"spoon"}),
    "is kept with forks": frozenset({"spoon"}),
    "measures sugar": frozenset({"spoon"}),
    "has six faces": frozenset({"green cube", "yellow cube"}),
    "is what a child plays with": frozenset({"green cube", "yellow cube"}),
    "carries a slice of cake": frozenset({"plate"}),
    "breaks when it falls": frozenset({"plate"}),
    "soaks up spilled water": frozenset({"towel"}),
    "can be folded": frozenset({"towel"}),
    "lets water drip off": frozenset({"basket"}),
    "carries the shopping": frozenset({"basket"}),
}


def _claims() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for thing in OBJECTS:
        claims = [f"is {thing.colour}", f"is {thing.shape}", f"is {thing.use}"]
        claims += [f"is a {thing.category}"] if thing.category in CATEGORIES else []
        claims += ["is a cube"] if thing.name.endswith("cube") else []
        for claim in claims:
            found.setdefault(claim, set()).add(thing.name)
    return {claim: frozenset(things) for claim, things in found.items()} | FACTS


CATEGORIES = ("vegetable", "toy", "container")  # those that take an article
CLAIMS = _claims()  # every claim, and the names of the things it is true of
_USES = {f"is {thing.use}" for thing in OBJECTS}
# What a person would deny of a thing to tell it from others: a look or a kind, not a use.
DENIABLE = tuple(claim for claim in CLAIMS if claim not in _USES and claim not in FACTS)


def fits(name: str, claim: str) -> bool:
    """Whether a claim holds of a thing; `is not ...` where `is ...` does not.

    Raises:
        KeyError: a claim of which nothing is known.
    """
    if claim.startswith("is not "):
        return name not in CLAIMS[claim.replace("is not ", "is ", 1)]
    return name in CLAIMS[claim]


# Classes of dense labels and of the model's spatial slots, in this order.
SLOTS = (*(thing.name for thing in OBJECTS), "gripper")
