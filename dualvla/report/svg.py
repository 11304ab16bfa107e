"""Scalable vector graphics from text: the few primitives the plots need.

Charts are written by hand rather than drawn by matplotlib because inline SVG takes its colours from
the page's variables (light and dark), stays sharp, weighs a few kilobytes and has the same bytes
every time. The price is that axes, legends and ticks are ours; only what `plots` uses is here.
"""

import math
from collections.abc import Sequence
from html import escape

Attributes = dict[str, float | str]

# Known models keep their colour in every plot and every report; the pages define the variables.
COLOURS = {
    "specialist": "--c-grey",
    "generalist": "--c-amber",
    "dualvla": "--c-blue",
    "base_ft": "--c-green",
    "prune_only": "--c-violet",
    "distill_only": "--c-teal",
    "random_mask": "--c-red",
    "scene_only": "--c-pink",
    "kinematic_only": "--c-sky",
    "no_action_teacher": "--c-brown",
    "no_reasoning_teacher": "--c-olive",
    "specialist_ft": "--c-slate",
    "qa_only": "--c-lime",
    "decoupled": "--c-indigo",
    "base_vlm": "--c-teal",
}

# Name: (light, dark). The same table writes the page's style sheet and the style of an SVG file.
VARIABLES = {
    "--ink": ("#1b2230", "#e6e9ef"),
    "--muted": ("#667085", "#98a2b3"),
    "--line": ("#e4e7ec", "#2b3240"),
    "--page": ("#f7f8fa", "#0e1219"),
    "--card": ("#ffffff", "#161b25"),
    "--accent": ("#3257c9", "#86a5ff"),
    "--good": ("#1d7f4a", "#5fcf94"),
    "--bad": ("#b3372c", "#ff8f84"),
    "--c-grey": ("#8a93a3", "#8d97a8"),
    "--c-amber": ("#d98a0b", "#f0b14a"),
    "--c-blue": ("#3257c9", "#7d9cff"),
    "--c-green": ("#2f9562", "#5cc692"),
    "--c-violet": ("#8250c4", "#b592f0"),
    "--c-teal": ("#17858f", "#58c0c9"),
    "--c-red": ("#c9483b", "#f28377"),
    "--c-pink": ("#c4528f", "#ef92c2"),
    "--c-sky": ("#4796d1", "#86c3f2"),
    "--c-brown": ("#8d6444", "#c49a78"),
    "--c-olive": ("#7c8524", "#b9c258"),
    "--c-slate": ("#4a5568", "#c5cdda"),
    "--c-lime": ("#5f9a1c", "#a3d65c"),
    "--c-indigo": ("#3c2fb3", "#a79bff"),
}


def colour(model: str) -> str:
    """CSS colour of a model."""
    return f"var({COLOURS.get(model, '--c-grey')})"


def variables(selector: str) -> str:
    """Style sheet that defines the colour variables on `selector` for light and dark."""
    light, dark = (
        "".join(f"{name}:{pair[side]};" for name, pair in VARIABLES.items()) for side in (0, 1)
    )
    rule = f"{selector}{{{light}}}"
    return f"{rule}@media(prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def number(value: float) -> str:
    """A coordinate with at most two decimals, so that bytes do not hang on rounding noise."""
    return f"{round(value, 2) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"


def tag(name: str, body: str = "", /, **attributes: float | str) -> str:
    """One element; an underscore in an attribute's name becomes a hyphen."""
    pairs = "".join(
        f' {key.strip("_").replace("_", "-")}="'
        f'{escape(value) if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{pairs}>{body}</{name}>" if body else f"<{name}{pairs}/>"


def text(x: float, y: float, content: str, **attributes: float | str) -> str:
    """A line of text; muted unless `fill` says otherwise."""
    base: Attributes = {"x": x, "y": y, "fill": "var(--muted)", "font_size": 12.0}
    return tag("text", escape(content), **(base | attributes))


def advance(content: str) -> float:
    """About how wide a line of `text` is drawn."""
    return 7.2 * len(content)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: float | str) -> str:
    """A straight stroke; the colour of grid lines unless `stroke` says otherwise."""
    base: Attributes = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "stroke": "var(--line)"}
    return tag("line", **(base | attributes))


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """An inline SVG of `width` x `height` units with an accessible title."""
    body = tag("title", escape(title)) + "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'role="img" font-family="system-ui, sans-serif" '
        f'style="max-width:{number(width)}px">{body}</svg>'
    )


def standalone(inline: str) -> str:
    """The same drawing as a file of its own, with its colours inside."""
    style = tag("style", variables("svg"))
    return inline.replace("<title>", style + "<title>", 1) + "\n"


def legend(x: float, y: float, models: Sequence[str], width: float) -> tuple[str, float]:
    """Coloured names in rows of at most `width`; returns the drawing and the height used."""
    parts, left, top = [], x, y
    for model in models:
        step = 30 + advance(model)
        if left + step > x + width and left > x:
            left, top = x, top + 20
        parts.append(
            tag("rect", x=left, y=top, width=11.0, height=11.0, rx=3.0, fill=colour(model))
        )
        parts.append(text(left + 17, top + 10, model, fill="var(--ink)"))
        left += step
    return "".join(parts), top + 20 - y


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values that cover [low, high]; at least two."""
    size = max(1.0, abs(low), abs(high))
    span = high - low if high - low > 1e-9 * size else size  # a flat curve still needs an axis
    power = 10.0 ** math.floor(math.log10(span / count))
    step = power * next(m for m in (1, 2, 5, 10) if power * m >= span / count * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]
