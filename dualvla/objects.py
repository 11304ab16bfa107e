"""The things in the scenes: what they are called, what they are made as, what is known of them.

One table feeds the asset pack, the annotations, the generated questions and the rule judge, so that
a colour is the same word everywhere. `model` is the folder name ManiSkill's Bridge tasks expect.
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

# Classes of dense labels and of the model's spatial slots, in this order.
SLOTS = (*(thing.name for thing in OBJECTS), "gripper")
