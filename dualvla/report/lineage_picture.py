"""The lineage as a picture: stages from the data at the top to the results at the bottom.

Items of a matrix (`evaluate@dualvla`, ...) are one box with their number, because a full night has
dozens of stages and the shape is the same for each item; the table below the picture has them all.
A layer is the longest way from a source, and an edge that only repeats a longer way is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dualvla.report import svg

Summary = Mapping[str, Any]
Edges = Mapping[str, Sequence[str]]

WIDTH, BOX, HEIGHT, PITCH = 760.0, 138.0, 40.0, 72.0
CORNER = 7.0


def draw(summary: Summary, title: str) -> str:
    """One inline SVG of the stages in the summary's lineage; a mark where a gate was passed.

    Args:
        summary: `report/summary.json`.
        title: for screen readers.
    """
    stages = summary["lineage"]["stages"]
    items: dict[str, list[str]] = {}
    for row in stages:
        items.setdefault(_kind(row["stage"]), []).append(row["stage"])
    above = _reduced({kind: _parents(kind, stages) for kind in items})
    places = _places(above)
    gates = _gates(summary)
    lines = [
        _edge(places[parent], places[kind]) for kind, parents in above.items() for parent in parents
    ]
    boxes = [_box(kind, items[kind], places[kind], gates.get(kind)) for kind in items]
    bottom = max((y for _, y in places.values()), default=0.0) + HEIGHT + 4
    return svg.drawing(WIDTH, bottom, title, [*lines, *boxes])


def _kind(stage: str) -> str:
    return stage.split("@", maxsplit=1)[0]


def _parents(kind: str, stages: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {_kind(up) for row in stages if _kind(row["stage"]) == kind for up in row["upstream"]}
    return sorted(found - {kind})


def _gates(summary: Summary) -> dict[str, bool]:
    """Whether all gates on what a kind of stage wrote are green, for the kinds that have some."""
    writer = {row["file"]: row["stage"] for row in summary["lineage"]["sources"]}
    found: dict[str, bool] = {}
    for row in summary["quality"]:
        if stage := writer.get(row["source"]):
            found[_kind(stage)] = found.get(_kind(stage), True) and row["success"]
    return found


def _ancestors(kind: str, above: Edges) -> set[str]:
    found: set[str] = set()
    todo = list(above[kind])
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += above.get(one, [])
    return found


def _reduced(above: Edges) -> Edges:
    """Edges without those that a longer way makes superfluous, and without those of a cycle."""
    over = {kind: _ancestors(kind, above) for kind in above}
    straight = {kind: [up for up in ups if kind not in over[up]] for kind, ups in above.items()}
    return {
        kind: [up for up in ups if not any(up in over[other] for other in ups if other != up)]
        for kind, ups in straight.items()
    }


def _places(above: Edges) -> dict[str, tuple[float, float]]:
    """Middle of each box's top edge: layers from top to bottom, side by side within one."""
    depth: dict[str, int] = {}

    def find(kind: str) -> int:
        if kind not in depth:
            depth[kind] = 1 + max((find(up) for up in above[kind]), default=-1)
        return depth[kind]

    layers: dict[int, list[str]] = {}
    for kind in above:
        layers.setdefault(find(kind), []).append(kind)
    places: dict[str, tuple[float, float]] = {}
    for layer, kinds in sorted(layers.items()):
        # Below the middle of what a box depends on, as far as there is room.
        kinds.sort(key=lambda kind: (_middle(above[kind], places), kind))
        pitch = WIDTH / len(kinds)
        for number, kind in enumerate(kinds):
            places[kind] = (pitch * (number + 0.5), layer * PITCH + 2)
    return places


def _middle(kinds: Sequence[str], places: Mapping[str, tuple[float, float]]) -> float:
    return sum(places[kind][0] for kind in kinds) / len(kinds) if kinds else 0.0


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = (start[0], start[1] + HEIGHT), end
    bend = (y2 - y1) / 2
    points = ((x1, y1 + bend), (x2, y2 - bend), (x2, y2))
    curve = " ".join(f"{svg.number(x)} {svg.number(y)}" for x, y in points)
    path = f"M{svg.number(x1)} {svg.number(y1)} C{curve}"
    return svg.tag("path", d=path, fill="none", stroke="var(--muted)", stroke_opacity=0.55)


def _box(kind: str, names: Sequence[str], place: tuple[float, float], gate: bool | None) -> str:
    x, y = place
    told = {None: "", True: "gate passed", False: "gate failed"}[gate]
    number = "" if len(names) == 1 else f"{len(names)} runs"
    below = ", ".join(filter(None, (number, told)))
    parts = [
        svg.tag("title", ", ".join(names) + (f": {told}" if told else "")),
        svg.tag(
            "rect",
            x=x - BOX / 2,
            y=y,
            width=BOX,
            height=HEIGHT,
            rx=CORNER,
            fill="var(--card)",
            stroke="var(--bad)" if gate is False else "var(--line)",
        ),
        svg.text(x, y + (17 if below else 24), kind, text_anchor="middle", fill="var(--ink)"),
    ]
    if below:
        parts.append(svg.text(x, y + 32, below, text_anchor="middle"))
    if gate is not None:
        colour = "var(--good)" if gate else "var(--bad)"
        parts.append(svg.tag("circle", cx=x + BOX / 2 - 9, cy=y + 9, r=3.5, fill=colour))
    return svg.tag("g", "".join(parts))
