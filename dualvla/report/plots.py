"""The report's plots: each a function from rows of `summary.json` to one inline SVG.

Every rate is drawn with its interval, because a bar without one invites the reader to see a winner
in the noise. Models keep their colour from plot to plot.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dualvla.report import svg

Row = Mapping[str, Any]
WIDTH = 760.0
TEXTS = ("true", "generated", "shuffled", "none")
# Clockwise from the top. A specialist has no R and RA: the three it has are neighbours.
AXES = (
    ("a", "A action"),
    ("i", "I intention"),
    ("success", "success"),
    ("ra", "RA alignment"),
    ("r", "R reasoning"),
)


def rates(rows: Sequence[Row], group: str, title: str) -> str:
    """Grouped bars of `rate` with the interval [low, high], all in [0, 1]; one bar a model.

    Args:
        rows: each with `model`, `rate`, `low`, `high`, `n` and the key `group`.
        group: key whose values are the groups, in order of appearance.
        title: for screen readers.
    """
    models = _unique(row["model"] for row in rows)
    groups = _unique(row[group] for row in rows)
    left, right, top, height = 44.0, 8.0, 10.0, 220.0
    legend, used = svg.legend(left, 0, models, WIDTH - left)
    top += used
    pitch = (WIDTH - left - right) / max(len(groups), 1)
    bar = min(34.0, pitch * 0.8 / max(len(models), 1))
    # Names wider than their group's place go below each other by turns.
    lines = 2 if max((svg.advance(str(name)) for name in groups), default=0.0) > pitch - 4 else 1
    parts = [legend]
    for percent in (0, 25, 50, 75, 100):
        y = top + height * (1 - percent / 100)
        parts.append(svg.line(left, y, WIDTH - right, y))
        parts.append(svg.text(left - 8, y + 4, f"{percent}%", text_anchor="end"))
    for g, name in enumerate(groups):
        centre = left + pitch * (g + 0.5)
        y = top + height + 20 + 16 * (g % lines)
        parts.append(svg.text(centre, y, str(name), text_anchor="middle", fill="var(--ink)"))
        for row in (r for r in rows if r[group] == name):
            x = centre + bar * (models.index(row["model"]) - len(models) / 2)
            parts.append(_bar(row, x, bar, top, height))
    return svg.drawing(WIDTH, top + height + 14 + 16 * lines, title, parts)


def _bar(row: Row, x: float, width: float, top: float, height: float) -> str:
    middle, base = x + width / 2, top + height
    if row["rate"] is None:
        return svg.text(middle, base - 6, "-", text_anchor="middle")
    low, rate, high = (base - height * row[key] for key in ("low", "rate", "high"))
    label = f"{row['model']}: {_percent(row['rate'])} of {row['n']}"
    label += f", 95 % interval {_percent(row['low'])} to {_percent(row['high'])}"
    whisker: svg.Attributes = {"stroke": "var(--ink)", "stroke_width": 1.4, "stroke_opacity": 0.75}
    cap = min(5.0, width / 4)
    body = [
        svg.tag("title", label),
        svg.tag(
            "rect",
            x=x + 1.5,
            y=rate,
            width=width - 3,
            height=max(base - rate, 1.0),
            rx=2.5,
            fill=svg.colour(row["model"]),
        ),
        svg.line(middle, low, middle, high, **whisker),
        svg.line(middle - cap, low, middle + cap, low, **whisker),
        svg.line(middle - cap, high, middle + cap, high, **whisker),
    ]
    return svg.tag("g", "".join(body))


def differences(rows: Sequence[Row], title: str) -> str:
    """Forest of paired differences in points, `difference` with [low, high] in [-1, 1]."""
    rows = [row for row in rows if row["n"]]
    names = [f"{row['first']} - {row['second']}" for row in rows]
    left = max([250.0, *(24 + svg.advance(name) for name in names)])
    right, top, step = 160.0, 24.0, 30.0
    span = max((abs(row[key]) for row in rows for key in ("low", "high")), default=0.1)
    grid = svg.ticks(-100 * span, 100 * span, 6)
    scale = (WIDTH - left - right) / (grid[-1] - grid[0])

    def at(points: float) -> float:
        return left + (points - grid[0]) * scale

    bottom = top + step * len(rows)
    parts = []
    for value in grid:
        dark: svg.Attributes = {"stroke": "var(--muted)"} if value == 0 else {}
        parts.append(svg.line(at(value), top - 6, at(value), bottom, **dark))
        parts.append(svg.text(at(value), top - 12, f"{value:+g}", text_anchor="middle"))
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        stroke = "var(--muted)" if row["winner"] is None else svg.colour(row["winner"])
        low, high, mean = at(100 * row["low"]), at(100 * row["high"]), 100 * row["difference"]
        parts += [
            svg.text(left - 14, y + 4, names[i], text_anchor="end", fill="var(--ink)"),
            svg.line(low, y, high, y, stroke=stroke, stroke_width=3.0, stroke_linecap="round"),
            svg.tag("circle", cx=at(mean), cy=y, r=5.0, fill=stroke),
            svg.text(WIDTH - right + 14, y + 4, f"{mean:+.1f} points, n {row['n']}"),
        ]
    return svg.drawing(WIDTH, bottom + 8, title, parts)


def radar(rows: Sequence[Row], title: str) -> str:
    """VLA Score radar: the raw means R, A, I, RA and success in [0, 1]; a null axis stays open."""
    size, radius = 440.0, 140.0
    models = [row["model"] for row in rows]
    legend, used = svg.legend(10, 0, models, size - 20)
    cx, cy = size / 2, used + radius + 34

    def at(axis: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * axis / len(AXES) - math.pi / 2
        return cx + radius * value * math.cos(angle), cy + radius * value * math.sin(angle)

    parts = [legend]
    for ring in (0.25, 0.5, 0.75, 1.0):
        corners = " ".join(_pair(at(a, ring)) for a in range(len(AXES)))
        parts.append(svg.tag("polygon", points=corners, fill="none", stroke="var(--line)"))
        parts.append(svg.text(cx + 4, cy - radius * ring + 11, f"{ring:g}", font_size=9.0))
    for a, (_, name) in enumerate(AXES):
        x, y = at(a, 1.12)
        anchor = "middle" if abs(x - cx) < 20 else ("start" if x > cx else "end")
        parts.append(svg.line(cx, cy, *at(a, 1)))
        parts.append(svg.text(x, y + 4, name, text_anchor=anchor, fill="var(--ink)"))
    for row in rows:
        points = [at(a, row[key]) for a, (key, _) in enumerate(AXES) if row[key] is not None]
        closed = len(points) == len(AXES)
        stroke = svg.colour(row["model"])
        parts.append(
            svg.tag(
                "polygon" if closed else "polyline",
                points=" ".join(map(_pair, points)),
                fill=stroke if closed else "none",
                fill_opacity=0.08,
                stroke=stroke,
                stroke_width=2.0,
                stroke_linejoin="round",
            )
        )
        parts += [svg.tag("circle", cx=x, cy=y, r=3.0, fill=stroke) for x, y in points]
    return svg.drawing(size, cy + radius + 16, title, parts)


def retention(rows: Sequence[Row], title: str) -> str:
    """Horizontal bars of the share of frames that keep their reasoning, one a row.

    Args:
        rows: each with `layer`, `group` (`all` or a task) and `rate` in [0, 1].
        title: for screen readers.
    """
    tones = {"scene": "--c-sky", "action": "--c-violet", "keep": "--c-blue"}
    left, right, step = 80.0, 60.0, 20.0
    full, parts, y = WIDTH - left - right, [], 4.0
    for group in _unique(row["group"] for row in rows):
        parts.append(svg.text(left, y + 14, str(group), fill="var(--ink)"))
        y += step
        for row in (r for r in rows if r["group"] == group):
            width = full * (row["rate"] or 0.0)
            fill = f"var({tones.get(row['layer'], '--c-grey')})"
            box: svg.Attributes = {"x": left, "y": y + 3, "height": step - 6, "rx": 3.0}
            parts += [
                svg.tag("rect", width=full, fill="var(--line)", fill_opacity=0.6, **box),
                svg.tag("rect", width=max(width, 1.0), fill=fill, **box),
                svg.text(left - 10, y + 14, row["layer"], text_anchor="end"),
                svg.text(WIDTH - right + 8, y + 14, _percent(row["rate"])),
            ]
            y += step
        y += 8
    return svg.drawing(WIDTH, y, title, parts)


def errors(rows: Sequence[Row], title: str) -> str:
    """Dots of the action error after each text with its interval, a group of lines a model.

    Args:
        rows: each with `model` and `errors.all`, by text {error, low, high} or None.
        title: for screen readers.
    """
    left, right, top, step = 110.0, 64.0, 22.0, 19.0
    found = [e for row in rows for e in row["errors"]["all"].values() if e is not None]
    ends = [e[key] for e in found for key in ("error", "high") if e[key] is not None]
    grid = svg.ticks(0.0, max(ends, default=1.0), 6)

    def at(error: float) -> float:
        return left + (WIDTH - left - right) * error / grid[-1]

    body, y = [], top
    for row in rows:
        stroke = svg.colour(row["model"])
        body.append(svg.text(8, y + 13, row["model"], fill="var(--ink)", font_weight="600"))
        y += step
        for name in TEXTS:
            error = row["errors"]["all"].get(name)
            if error is None:
                continue
            middle = y + step / 2
            value = error["error"]
            label = f"{row['model']}, {name}: {value:.3f}"
            dot = svg.tag(
                "circle", svg.tag("title", label), cx=at(value), cy=middle, r=5.0, fill=stroke
            )
            body.append(svg.text(left - 14, middle + 4, name, text_anchor="end"))
            if error["low"] is not None:
                low, high = at(error["low"]), at(error["high"])
                whisker: svg.Attributes = {"stroke_width": 3.0, "stroke_opacity": 0.45}
                body.append(svg.line(low, middle, high, middle, stroke=stroke, **whisker))
            body += [dot, svg.text(WIDTH - right + 14, middle + 4, f"{value:.3f}")]
            y += step
        y += 8
    lines = [svg.line(at(v), top - 6, at(v), y - 8) for v in grid]
    names = [svg.text(at(v), top - 12, f"{v:g}", text_anchor="middle") for v in grid]
    return svg.drawing(WIDTH, y, title, [*lines, *names, *body])


def conflict(rows: Sequence[Row], title: str) -> str:
    """Cosine of the gradients of action and language loss over each run, one line a model.

    Args:
        rows: each with `model`, `steps` and `conflict`, a list of {step, cosine}.
        title: for screen readers.
    """
    rows = [row for row in rows if row["conflict"]]
    left, right, height = 48.0, 12.0, 170.0
    legend, used = svg.legend(left, 0, [row["model"] for row in rows], WIDTH - left)
    top = used + 8
    known = [p["cosine"] for row in rows for p in row["conflict"] if p["cosine"] is not None]
    grid = svg.ticks(min([0.0, *known]), max([0.0, *known]), 4)

    def y(cosine: float) -> float:
        return top + height * (grid[-1] - cosine) / (grid[-1] - grid[0])

    parts = [legend]
    for value in grid:
        dark: svg.Attributes = {"stroke": "var(--muted)"} if value == 0 else {}
        parts.append(svg.line(left, y(value), WIDTH - right, y(value), **dark))
        parts.append(svg.text(left - 8, y(value) + 4, f"{value:g}", text_anchor="end"))
    for row in rows:
        stroke, scale = svg.colour(row["model"]), (WIDTH - left - right) / row["steps"]
        points = [
            (left + scale * p["step"], y(p["cosine"]))
            for p in row["conflict"]
            if p["cosine"] is not None
        ]
        line: svg.Attributes = {"fill": "none", "stroke": stroke, "stroke_width": 2.0}
        parts.append(svg.tag("polyline", points=" ".join(map(_pair, points)), **line))
        parts += [svg.tag("circle", cx=x, cy=cy, r=3.0, fill=stroke) for x, cy in points]
    bottom = top + height + 18
    for x, anchor, text in ((left, "start", "start of the run"), (WIDTH - right, "end", "end")):
        parts.append(svg.text(x, bottom, text, text_anchor=anchor))
    return svg.drawing(WIDTH, bottom + 6, title, parts)


def curves(rows: Sequence[Row], title: str) -> str:
    """Small multiples of the training loss against optimiser steps, one panel a model.

    Args:
        rows: each with `model` and `curve`, a list of {step, loss}.
        title: for screen readers.
    """
    columns, width, height, gap = 3, 240.0, 120.0, 18.0
    parts, pitch = [], height + 58
    for i, row in enumerate(rows):
        left = 36 + (i % columns) * (width + gap)
        top = 26 + (i // columns) * pitch
        parts.append(_panel(row, left, top, width - 36, height))
    lines = max(math.ceil(len(rows) / columns), 1)
    return svg.drawing(WIDTH, lines * pitch + 4, title, parts)


def _panel(row: Row, left: float, top: float, width: float, height: float) -> str:
    points = [(p["step"], p["loss"]) for p in row["curve"] if p.get("loss") is not None]
    parts = [svg.text(left, top - 8, row["model"], fill="var(--ink)", font_weight="600")]
    if not points:
        return "".join([*parts, svg.text(left, top + 20, "no curve recorded")])
    losses = [loss for _, loss in points]
    grid = svg.ticks(min(losses), max(losses), 3)
    last = max(step for step, _ in points) or 1
    for value in grid:
        y = top + height * (1 - (value - grid[0]) / (grid[-1] - grid[0]))
        parts.append(svg.line(left, y, left + width, y))
        parts.append(svg.text(left - 6, y + 4, f"{value:g}", text_anchor="end", font_size=10.0))
    path = " ".join(
        _pair(
            (
                left + width * step / last,
                top + height * (1 - (loss - grid[0]) / (grid[-1] - grid[0])),
            )
        )
        for step, loss in points
    )
    stroke = svg.colour(row["model"])
    parts.append(
        svg.tag(
            "polyline",
            points=path,
            fill="none",
            stroke=stroke,
            stroke_width=2.0,
            stroke_linejoin="round",
        )
    )
    end = f"{last} steps"
    parts.append(svg.text(left + width, top + height + 16, end, text_anchor="end", font_size=10.0))
    return "".join(parts)


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))


def _pair(point: tuple[float, float]) -> str:
    return f"{svg.number(point[0])},{svg.number(point[1])}"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"
