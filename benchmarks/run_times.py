"""Report of what each stage of a finished run cost, as Markdown.

Usage: python benchmarks/run_times.py [report/summary.json] > docs/benchmarks/NAME.md
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

from dualvla import files


def main() -> None:
    """Print hardware, commit and a table from the run's timings."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "report/summary.json")
    summary = files.read_json(source)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    out = sys.stdout
    out.write(f"# Run times, profile `{summary['profile']}`\n\n")
    out.write(f"Commit {commit or 'none'}; {platform.machine()}, {os.cpu_count()} cores, no GPU; ")
    out.write("wall-clock seconds of each stage's own process, stages partly side by side.\n\n")
    out.write("| stage | wall s | CPU s | peak RSS, MiB |\n|---|---|---|---|\n")
    for row in summary["timings"]:
        if row.get("seconds") is None:
            continue
        name = "@".join([row["stage"], *row.get("selection", {}).values()])
        out.write(f"| {name} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} | ")
        out.write(f"{row['peak_rss_mib'] + row['peak_rss_child_mib']:.0f} |\n")


if __name__ == "__main__":
    main()
