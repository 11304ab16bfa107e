"""Renders the ablation's summary as one page and as its Markdown twin, with `page`'s templates."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from dualvla.report import claims, plots, rendering

Summary = Mapping[str, Any]


def html(summary: Summary) -> str:
    """The page; everything it needs is inside."""
    drawn = {name: Markup(plot) for name, plot in draw(summary).items()}
    values = {**summary, **_index(summary), "plots": drawn, "style": rendering.page_style()}
    return rendering.render("ablation.html.j2", values, escape=True)


def markdown(summary: Summary) -> str:
    """The Markdown twin; refers to the plots as `plots/<name>.svg`."""
    return rendering.render("ablation.md.j2", {**summary, **_index(summary)}, escape=False)


def draw(summary: Summary) -> dict[str, str]:
    """Forests of paired differences by `<budget>-<starts>-<reference>`, and success, as SVG."""
    drawn = {}
    for budget in (row["budget"] for row in summary["budgets"]):
        rows = [r for r in summary["success"] if (r["budget"], r["task"]) == (budget, "all")]
        drawn[f"{budget}-success"] = plots.rates(rows, "starts", f"Success, budget {budget}")
        for starts in summary["starts"]:
            for reference in _references(summary):
                chosen = [
                    row
                    for row in summary["comparisons"]
                    if (row["budget"], row["starts"], row["second"]) == (budget, starts, reference)
                ]
                title = f"Differences to {reference}, budget {budget}, {starts} starts"
                drawn[f"{budget}-{starts}-{reference}"] = plots.differences(chosen, title)
    return drawn


def _references(summary: Summary) -> list[str]:
    return [name for name in claims.REFERENCES if name in summary["models"]]


def _index(summary: Summary) -> dict[str, Any]:
    """The summary's rows by what the tables look them up with."""
    by = {
        name: {(row["budget"], row["model"]): row for row in summary[name]}
        for name in ("questions", "costs", "training")
    }
    success = {
        (row["budget"], row["model"], row["starts"], row["task"]): row for row in summary["success"]
    }
    told = dict.fromkeys(row["claim"] for row in summary["claims"])
    return {
        # A claim's rows of all budgets together, claims in the order in which they are told.
        "claims": [row for claim in told for row in summary["claims"] if row["claim"] == claim],
        "success_by": success,
        **{f"{name}_by": rows for name, rows in by.items()},
        "references": _references(summary),
        "chips": [
            ("profile", summary["profile"]),
            ("assets", summary["assets"]),
            ("success mode", summary["success_mode"]),
            ("reasoning", summary["reason"]),
            ("seeds", ", ".join(map(str, summary["seeds"]))),
        ],
    }
