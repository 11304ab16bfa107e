"""The sink with its drying basket: convex solids for physics, rendering and the painted backdrop.

The simulator draws the backdrop over the sink, so what is seen and what is touched must come from
one description. Coordinates are the sink's own, metres: x towards the robot, z up, floor at 0.
The basin is as deep as the original's, and the basket's floor is as high as the original's wires,
so that heights in the task definition (start of the eggplant, success) hold.
"""

from dualvla.simulation.assets.solids import Solid, box, prism

RIM = 0.098
BASIN = ((-0.038, -0.018), (0.117, 0.164))  # corners x, y
BASIN_FLOOR = 0.0405
BAY = ((-0.039, -0.160), (0.109, -0.050))  # the basket hangs in it
BASKET = ((-0.035, -0.156), (0.105, -0.054))  # inner corners; centre 0.035 -0.105 as the task's
BASKET_FLOOR = 0.060
BASKET_RIM = 0.104
OUTER = ((-0.137, -0.203), (0.138, 0.195))
WALL = 0.003  # thickness of the basket
BEVEL = 0.014  # slope between basin floor and walls


def basin() -> list[Solid]:
    """Body of the sink: a floor, and blocks around two openings."""
    (x0, y0), (x1, y1) = OUTER
    (a0, b0), (a1, b1) = BASIN
    (_, d0), (c1, d1) = BAY
    # Parts overlap by a millimetre or so: the loader would join parts that share a corner.
    body = [
        box((x0 + 0.004, y0 + 0.004, 0.0), (x1 - 0.012, y1 - 0.004, BASIN_FLOOR), "sink"),
        box((x0, y0, 0.010), (a0, y1, RIM), "sink"),
        box((a1 + 0.005, y0 + 0.001, 0.060), (x1, y1 - 0.001, RIM - 0.0002), "sink"),
        box((a1 + 0.004, y0 + 0.003, 0.002), (x1 - 0.010, y1 - 0.003, 0.062), "navy"),
        box((c1, d0 - 0.001, 0.016), (a1 + 0.0055, d1 + 0.001, RIM - 0.0006), "sink"),
        box((a0 - 0.002, y0 + 0.002, 0.012), (a1 + 0.006, d0, RIM - 0.0001), "sink"),
        box((a0 - 0.003, d1, 0.013), (a1 + 0.007, b0, RIM - 0.0003), "sink"),
        box((a0 - 0.004, b1, 0.014), (a1 + 0.008, y1 - 0.002, RIM - 0.0004), "sink"),
        box((a1, b0 - 0.001, 0.015), (a1 + 0.009, b1 + 0.001, RIM - 0.0005), "sink"),
    ]
    low, high, b = BASIN_FLOOR - 0.002, BASIN_FLOOR + BEVEL, BEVEL
    slopes = [
        prism([(a0 - 0.001, low), (a0 + b, low), (a0 - 0.001, high)], "y", b0, b1, "sink"),
        prism([(a1 + 0.001, low), (a1 - b, low), (a1 + 0.001, high)], "y", b0, b1, "sink"),
        prism([(b0 - 0.001, low), (b0 + b, low), (b0 - 0.001, high)], "x", a0, a1, "sink"),
        prism([(b1 + 0.001, low), (b1 - b, low), (b1 + 0.001, high)], "x", a0, a1, "sink"),
    ]
    return body + slopes


def rack() -> list[Solid]:
    """The raised block behind the basket, with teeth."""
    teeth = [
        box((-0.118, y, RIM - 0.002), (-0.086, y + 0.018, 0.116), "sink")
        for y in (-0.170, -0.138, -0.106, -0.074)
    ]
    return [box((-0.125, -0.176, RIM - 0.003), (-0.080, -0.050, 0.106), "sink"), *teeth]


def basket_solids() -> list[Solid]:
    """The basket as the physics sees it: floor and four closed walls."""
    (x0, y0), (x1, y1) = BASKET
    low, high, w = BASKET_FLOOR - 0.004, BASKET_RIM, WALL
    return [
        box((x0 - 0.001, y0 - 0.001, low), (x1 + 0.001, y1 + 0.001, BASKET_FLOOR), "basket"),
        box((x0 - w, y0 - w, low + 0.001), (x0, y1 + w, high), "basket"),
        box((x1, y0 - w + 0.0002, low + 0.001), (x1 + w, y1 + w - 0.0002, high), "basket"),
        box((x0 - 0.002, y0 - w + 0.0004, low + 0.0012), (x1 + 0.002, y0, high - 0.0002), "basket"),
        box((x0 - 0.002, y1, low + 0.0012), (x1 + 0.002, y1 + w - 0.0004, high - 0.0002), "basket"),
    ]


def basket_wires() -> list[Solid]:
    """The basket as it looks: a rim, bars down the walls and across the floor."""
    (x0, y0), (x1, y1) = BASKET
    low, high, w = BASKET_FLOOR, BASKET_RIM, 0.004
    rim = [
        box((x0 - 0.008, y0 - 0.008, high - 0.005), (x0, y1 + 0.008, high), "basket"),
        box((x1, y0 - 0.008, high - 0.005), (x1 + 0.008, y1 + 0.008, high), "basket"),
        box((x0, y0 - 0.008, high - 0.005), (x1, y0, high), "basket"),
        box((x0, y1, high - 0.005), (x1, y1 + 0.008, high), "basket"),
        box((x0 - 0.003, y0, low + 0.012), (x0, y1, high - 0.005), "basket"),  # closed back wall
    ]
    bars = []
    for k in range(8):
        x = x0 + (x1 - x0 - w) * k / 7
        bars.append(box((x, y0 - 0.002, low), (x + w, y0 + 0.001, high - 0.004), "basket"))
        bars.append(box((x, y1 - 0.001, low), (x + w, y1 + 0.002, high - 0.004), "basket"))
        bars.append(box((x, y0, low - 0.004), (x + w, y1, low), "basket"))
    for k in range(6):
        y = y0 + (y1 - y0 - w) * k / 5
        bars.append(box((x1 - 0.001, y, low), (x1 + 0.002, y + w, high - 0.004), "basket"))
        bars.append(box((x0, y, low - 0.0045), (x1, y + w, low - 0.0005), "basket"))
    return rim + bars


def collision() -> list[Solid]:
    """Convex parts for the physics engine; no two share a corner."""
    return [*basin(), *rack(), *basket_solids()]


def visual() -> list[Solid]:
    """What the camera sees of the sink itself."""
    return [*basin(), *rack(), *basket_wires()]
