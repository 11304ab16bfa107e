"""Write README's table of results from a run's report/summary.json.

Usage: python benchmarks/readme_table.py [report/summary.json]
"""

import sys
from pathlib import Path
from typing import Any

from dualvla import files

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results:begin", "<!-- results:end -->"


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


def render(summary: dict[str, Any]) -> str:
    """The first set's table and how to read it."""
    starts = summary["starts"][0]
    note = (
        f"Profile `{summary['profile']}`, seed {summary['seed']}, {starts} starts, "
        f"{summary['success_mode'].replace('_', ' ')} success, `{summary['assets']}` assets; "
        "percent with Wilson intervals. VLA Score: rule judge, the specialist on its own scale. "
        + ("Score and tokens are of all sets of starts. " if len(summary["starts"]) > 1 else "")
        + summary["verdict"]["text"]
    )
    return f"{table(summary, starts)}\n\n{note}"


def main() -> None:
    """Replace what stands between the two marks."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "report/summary.json")
    written = render(files.read_json(source))
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    mark, tail = rest.split("\n", 1)
    files.write_text(README, f"{head}{BEGIN}{mark}\n{written}\n{END}{tail.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
