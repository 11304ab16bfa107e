"""Page of a finished ablation, as Markdown: what it cost, and its report without plots.

Usage, in the workspace's folder:
    python benchmarks/ablation_page.py --commit SHA > docs/benchmarks/ablation.md

`--episodes FILE` writes every single outcome too, so that all rates, pairs and intervals of the
page can be computed again when the run's own tables are gone: CSV with a line for each model, run,
set of starts and task, and a mark for each start, in the order of the protocol (1 solved, 0 not,
x crashed).
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
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


def outcomes(table: pd.DataFrame, mode: str) -> Iterator[tuple[str, str, str]]:
    """Set of starts, task and marks of one evaluation's episodes.

    Args:
        table: its results.parquet.
        mode: column that says what counts as success.
    """
    marks = table[mode].map({True: "1", False: "0"}).where(table["status"] == "ok", "x")
    for (starts, task), part in marks.groupby([table["starts"], table["task"]], sort=False):
        yield str(starts), str(task), "".join(part)


def episodes(summary: dict[str, Any]) -> Iterator[str]:
    """Lines of the file of single outcomes, of the models in the summary."""
    models = {row["model"] for row in summary["success"]}
    yield "model,run,starts,task,outcomes"
    for path in sorted((paths.ABLATION / paths.EVALUATION).glob("*/*/results.parquet")):
        model, run = path.parent.name, path.parent.parent.name
        if model in models:
            for row in outcomes(pd.read_parquet(path), summary["success_mode"]):
                yield ",".join((model, run, *row))


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", required=True, help="as in the name of the flow run")
    parser.add_argument("--note", default="", help="whatever else a reader must know")
    parser.add_argument("--episodes", type=Path, help="file for the single outcomes")
    given = parser.parse_args()
    summary = files.read_json(paths.ABLATION / paths.REPORT / "summary.json")
    read = [files.read_json(path) for path in sorted(Path(paths.TIMINGS).glob("*.json"))]
    timings = [row for row in read if own(row, summary)]
    if given.episodes:
        files.write_text(given.episodes, "\n".join([*episodes(summary), ""]))
    sys.stdout.write(page(summary, timings, given.commit, given.note))


if __name__ == "__main__":
    main()
