"""Renders a summary as one HTML page without external resources, and as its Markdown twin.

Both templates see the summary and the media only. Undefined names are errors, so that a template
cannot quietly show nothing where the summary lacks a figure.
"""

from collections import defaultdict
from collections.abc import Mapping
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup

from dualvla.report import plots, svg
from dualvla.report.media import Media

Summary = Mapping[str, Any]

SECTIONS = (
    ("plots", "Success"),
    ("comparisons", "Paired tests"),
    ("decisions", "Tokens and latency"),
    ("questions", "Questions"),
    ("score", "VLA Score"),
    ("diagnosis", "Diagnosis"),
    ("retention", "Retention"),
    ("events", "Event boundaries"),
    ("training", "Training"),
    ("data", "Data and gates"),
    ("videos", "Videos"),
    ("reported", "Reported"),
    ("lineage", "Lineage"),
    ("timings", "Time"),
)
STATES = {
    "same": "same",
    "changed": "changed since",
    "inside": "part of a larger output",
    "unrecorded": "not recorded",
}


def html(summary: Summary, media: Media) -> str:
    """The page; everything it needs is inside, except videos beyond the cap."""
    drawn = {name: Markup(plot) for name, plot in draw(summary).items()}
    style = page_style()
    values = {**summary, **_index(summary), "plots": drawn, "media": media, "style": style}
    return render("page.html.j2", values, escape=True)


def markdown(summary: Summary) -> str:
    """The Markdown twin; refers to the plots as `plots/<name>.svg`."""
    return render("report.md.j2", {**summary, **_index(summary)}, escape=False)


def draw(summary: Summary) -> dict[str, str]:
    """Every plot of the report by name, as inline SVG."""
    drawn = {}
    for starts in summary["starts"]:
        rows = [row for row in summary["success"] if row["starts"] == starts]
        rows.sort(key=lambda row: row["task"] == "all")
        drawn[f"success-{starts}"] = plots.rates(rows, "task", f"Success on {starts} starts")
        pairs = [r for r in summary["comparisons"] if (r["starts"], r["task"]) == (starts, "all")]
        title = f"Paired differences on {starts} starts"
        drawn[f"differences-{starts}"] = plots.differences(pairs, title)
    tasks = [row for row in summary["retention"] if row["kind"] != "dataset"]
    return drawn | {
        "questions": plots.rates(summary["questions"], "kind", "Held-out visual questions"),
        "radar": plots.radar(summary["vla_score"], "VLA Score dimensions"),
        "errors": plots.errors(summary["diagnosis"], "Action error after several texts"),
        "conflict": plots.conflict(summary["training"], "Cosine of the two gradients"),
        "retention": plots.retention(tasks, "Share of frames that keep their reasoning"),
        "training": plots.curves(summary["training"], "Training losses"),
    }


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


def _index(summary: Summary) -> dict[str, Any]:
    """The summary's rows by what the tables look them up with; None where there is no row."""

    def by(section: str, *keys: str) -> dict[Any, Any]:
        table: dict[Any, Any] = defaultdict(lambda: None)
        for row in summary[section]:
            table[tuple(row[key] for key in keys)] = row
        return table

    seconds = [row["seconds"] for row in summary["timings"] if row["seconds"] is not None]
    return {
        "success_by": by("success", "model", "starts", "task"),
        "modes_by": by("modes", "model", "mode"),
        "mode_names": list(dict.fromkeys(row["mode"] for row in summary["modes"])),
        "questions_by": by("questions", "model", "kind"),
        "kinds": list(dict.fromkeys(row["kind"] for row in summary["questions"])),
        "asked": list(dict.fromkeys(row["model"] for row in summary["questions"])),
        "conflicts": [conflict(row) for row in summary["training"] if row["conflict"]],
        "sources": {row["file"]: row for row in summary["lineage"]["sources"]},
        "states": STATES,
        "sections": SECTIONS,
        "slowest": max(seconds, default=0.0) or 1.0,
        "chips": [
            ("profile", summary["profile"]),
            ("assets", summary["assets"]),
            ("success mode", summary["success_mode"]),
            ("starts", ", ".join(summary["starts"])),
            ("seed", summary["seed"]),
        ],
    }


def percent(rate: float | None) -> str:
    """A share of [0, 1] in percent, one decimal."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, signed, one decimal."""
    return "-" if difference is None else f"{100 * difference:+.1f}"


def conflict(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the points of a run's gradient conflict come to; None where no cosine is known."""
    cosines = [p["cosine"] for p in row["conflict"] if p["cosine"] is not None]
    ratios = [p["language_norm"] / p["flow_norm"] for p in row["conflict"] if p["flow_norm"] > 0]
    return {
        "model": row["model"],
        "points": len(row["conflict"]),
        "mean": sum(cosines) / len(cosines) if cosines else None,
        "first": cosines[0] if cosines else None,
        "last": cosines[-1] if cosines else None,
        "opposed": sum(cosine < 0 for cosine in cosines),
        "ratio": sum(ratios) / len(ratios) if ratios else None,
        "source": row["source"],
    }


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
