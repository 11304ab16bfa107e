"""Page of a finished run's results, as Markdown: every set of starts, paired tests, questions.

Usage: python benchmarks/results_page.py --commit SHA report/summary.json > docs/benchmarks/NAME.md
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run_times import hardware

from dualvla import files
from dualvla.evaluation.statistics import rate


def table(summary: dict[str, Any], starts: str) -> str:
    """Success on a set of starts, questions, VLA Score and tokens, with n and intervals."""
    tasks = summary["tasks"]
    rates = {(r["model"], r["task"]): r for r in summary["success"] if r["starts"] == starts}
    asked = {r["model"]: r for r in summary["questions"] if r["kind"] == "all"}
    scores = {r["model"]: r["score"] for r in summary["vla_score"]}
    tokens = {r["model"]: r["tokens_per_decision"] for r in summary["decisions"]}
    head = ["model", *tasks, "success, all [95 %]", "held-out QA", "VLA Score", "tokens/decision"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for model in summary["models"]:
        cells = [f"{rates[model, t]['k']}/{rates[model, t]['n']}" for t in tasks]
        total, question = rates[model, "all"], asked[model]
        bounds = "[{:.1f}, {:.1f}]".format(100 * total["low"], 100 * total["high"])
        cells.append(f"{100 * total['rate']:.1f} {bounds}")
        cells.append(f"{100 * question['rate']:.1f} (n = {question['n']})")
        cells += [f"{100 * scores[model]:.1f}", f"{tokens[model]:.1f}"]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lines(summary: dict[str, Any], commit: str, note: str) -> Iterator[str]:
    """Lines of the page."""
    yield f"# Results, profile `{summary['profile']}`\n"
    yield (
        f"Commit {commit}; {hardware()}; seed "
        f"{summary['seed']}, {summary['success_mode'].replace('_', ' ')} success, "
        f"`{summary['assets']}` assets; k/n a task, percent with Wilson 95 % intervals. VLA Score: "
        f"rule judge over all starts, the specialist on its own scale. {note}".rstrip()
    )
    for starts in summary["starts"]:
        yield f"\n## Starts `{starts}`\n"
        yield table(summary, starts)
        yield "\nPaired on the same starts, McNemar's exact test, Holm over the comparisons:\n"
        yield "| first - second | n | difference, points [95 %] | p | p, Holm |"
        yield "|---|---|---|---|---|"
        for row in summary["comparisons"]:
            if row["starts"] == starts and row["task"] == "all":
                yield (
                    f"| {row['first']} - {row['second']} | {row['n']} | "
                    f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, "
                    f"{100 * row['high']:+.1f}] | {row['p']:.3f} | {row['p_holm']:.3f} |"
                )
    yield "\n## Base vision-language model, held-out pictures\n"
    yield from base(summary)


def base(summary: dict[str, Any]) -> Iterator[str]:
    """Held-out figures of the base model's training."""
    held = next(t["heldout"] for t in summary["training"] if t["model"] == "base_vlm")
    asked = rate(int(held["qa_k"]), int(held["qa_n"]))
    bounds = f"[{100 * asked['low']:.1f}, {100 * asked['high']:.1f}]"
    yield f"- questions: {asked['k']}/{asked['n']}, {100 * asked['rate']:.1f} {bounds} %"
    millimetres, pixels = held["vision.xyz_mm"], held["vision.uv_px"]
    yield f"- place of a thing: {millimetres:.1f} mm and {pixels:.2f} px (median)"
    yield f"- its yaw: {held['vision.yaw_deg']:.1f} degrees (median)"
    yield f"- its presence: {100 * held['vision.presence']:.1f} % right"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--commit", required=True, help="as in the name of the flow run")
    parser.add_argument("--note", default="", help="whatever else a reader must know")
    given = parser.parse_args()
    sys.stdout.write("\n".join(lines(files.read_json(given.summary), given.commit, given.note)))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
