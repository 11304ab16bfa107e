"""Page of a finished ablation, as Markdown: what it cost, and its report without plots.

Usage, in the workspace's folder:
    python benchmarks/ablation_page.py --commit SHA > docs/benchmarks/ablation.md
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run_times import hardware

from dualvla import files, paths
from dualvla.report import ablation_page

# Stages of the main graph that the ablation builds on, and its own report.
SHARED = (
    *("demonstrations", "multimodal", "annotate", "base_vlm", "mix", "specialist", "prune"),
    "ablation",
)
PLOT = re.compile(r"^!\[.*\]\(plots/.*\)\n\n?", re.MULTILINE)


def own(timing: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Whether a stage is the ablation's: the workspace may hold a nightly run's too."""
    chosen = timing["selection"]
    if "run" not in chosen:
        return timing["stage"] in SHARED
    models = {row["model"] for row in summary["success"]}
    return chosen.get("model", chosen.get("arm", "generalist")) in models


def costs(timings: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of a table: stages, how often each ran, and CPU and wall hours of their processes."""
    yield "| stage | runs | CPU h | wall h, stages side by side |"
    yield "|---|---:|---:|---:|"
    for stage in dict.fromkeys(row["stage"] for row in timings):
        yield _cost(stage, [row for row in timings if row["stage"] == stage])
    yield _cost("all", timings)


def _cost(name: str, rows: list[dict[str, Any]]) -> str:
    spent, lasted = (sum(row[key] for row in rows) / 3600 for key in ("cpu_seconds", "seconds"))
    return f"| {name} | {len(rows)} | {spent:.2f} | {lasted:.2f} |"


def page(summary: dict[str, Any], timings: list[dict[str, Any]], commit: str, note: str) -> str:
    """The page."""
    title, rest = PLOT.sub("", ablation_page.markdown(summary)).split("\n", 1)
    made = f"Commit {commit}; {hardware()}. {note}".rstrip()
    return "\n".join([title, "", made, rest.rstrip(), "", "## Cost", "", *costs(timings), ""])


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", required=True, help="as in the name of the flow run")
    parser.add_argument("--note", default="", help="whatever else a reader must know")
    given = parser.parse_args()
    summary = files.read_json(paths.ABLATION / paths.REPORT / "summary.json")
    read = [files.read_json(path) for path in sorted(Path(paths.TIMINGS).glob("*.json"))]
    timings = [row for row in read if own(row, summary)]
    sys.stdout.write(page(summary, timings, given.commit, given.note))


if __name__ == "__main__":
    main()
