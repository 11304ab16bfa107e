"""A summary as one HTML page without external resources, and as its Markdown twin.

Both templates see the summary and the media only.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from dualvla.report import costs, lineage_picture, plots
from dualvla.report.media import Media
from dualvla.report.rendering import page_style, render

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
    ("timings", "Cost"),
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
        "lineage": lineage_picture.draw(summary, "From the data to the results"),
    }


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
        "total": costs.total(summary["timings"]),
        "chips": [
            ("profile", summary["profile"]),
            ("assets", summary["assets"]),
            ("success mode", summary["success_mode"]),
            ("starts", ", ".join(summary["starts"])),
            ("seed", summary["seed"]),
        ],
    }


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
