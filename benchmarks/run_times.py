"""Report of what each stage of a finished run cost, as Markdown.

Usage: python benchmarks/run_times.py --commit SHA [report/summary.json] > docs/benchmarks/NAME.md
"""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

from dualvla import files


def hardware() -> str:
    """Machine, cores and GPU, in words."""
    gpu = "a GPU" if shutil.which("nvidia-smi") else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {gpu}"


def main() -> None:
    """Print hardware, the commit that ran, what else ran, and a table from the run's timings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", nargs="?", default="report/summary.json", type=Path)
    parser.add_argument("--commit", required=True, help="as in the name of the flow run")
    parser.add_argument("--note", default="", help="what else used the machine")
    given = parser.parse_args()
    summary = files.read_json(given.summary)
    out = sys.stdout
    out.write(f"# Run times, profile `{summary['profile']}`\n\n")
    out.write(f"Commit {given.commit}; {hardware()}; ")
    out.write("seconds of each stage's own process, stages partly side by side. ")
    out.write("Memory is that of the process and its largest child. ")
    out.write(f"{given.note}\n\n")
    out.write("| stage | wall s | CPU s | peak RSS, MiB |\n|---|---|---|---|\n")
    for row in summary["timings"]:
        if row.get("seconds") is None:
            continue
        name = "@".join([row["stage"], *row.get("selection", {}).values()])
        out.write(f"| {name} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} | ")
        out.write(f"{row['peak_rss_mib'] + row['peak_rss_child_mib']:.0f} |\n")


if __name__ == "__main__":
    main()
