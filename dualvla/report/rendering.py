"""Filling in the templates of this package: how figures are written on every page.

Undefined names are errors, so that a template cannot quietly show nothing where a figure is
missing.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup

from dualvla.report import svg


def page_style() -> Markup:
    """Style sheet of a page, with the colours of the plots."""
    return Markup(svg.variables(":root") + _template("style.css"))


def render(name: str, values: Mapping[str, Any], *, escape: bool) -> str:
    """Fill in a template of this package; an undefined name in it is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "figure": figure,
        "p": p_value,
        "colour": svg.colour,
        "stem": lambda path: PurePosixPath(path).stem,
        "cell": lambda text: str(text).replace("|", "\\|"),
        "lines": _lines,
        "tenth": lambda value: "-" if value is None else f"{value:.1f}",
        "signed": lambda value: "-" if value is None else f"{value:+.2f}",
        "share": lambda value: "-" if value is None else f"{value:.3f}",
        # A line never ends between p and its value.
        "tied": lambda text: text.replace(", p ", ", p\u00a0").replace(" 0.", "\u00a00."),
    }
    return environment.get_template(name).render(values)


def percent(rate: float | None) -> str:
    """A share of [0, 1] in percent, one decimal."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, signed, one decimal."""
    return "-" if difference is None else f"{100 * difference:+.1f}"


def p_value(value: float) -> str:
    """A p-value with three decimals, or its bound."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def figure(value: Any) -> str:
    """Any other figure: three significant digits for fractions, whole numbers in full."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _lines(row: Mapping[str, Any]) -> str:
    """What one stage read and wrote, a line a file or parameter."""
    lines = [str(row["cmd"])] + [
        f"{kind:4} {md5}  {path}"
        for kind in ("data", "code", "outs")
        for path, md5 in sorted(row["files"][kind].items())
    ]
    for path, values in sorted(row["values"].items()):
        lines += [f"param {path}: {key} = {value}" for key, value in sorted(values.items())]
    return "\n".join(lines)


def _template(name: str) -> str:
    return resources.files("dualvla.report").joinpath("templates", name).read_text("utf-8")
