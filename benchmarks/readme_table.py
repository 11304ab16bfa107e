"""Write README's table of results, and its plots, from an ablation's summary.json.

Usage: python benchmarks/readme_table.py [ablation/report/summary.json]
"""

import sys
from pathlib import Path
from typing import Any

from dualvla import files
from dualvla.report import ablation_page, svg

README = Path(__file__).parents[1] / "README.md"
PICTURES = README.parent / "docs" / "pictures"
BEGIN, END = "<!-- results:begin", "<!-- results:end -->"


def table(summary: dict[str, Any]) -> str:
    """Success on each set of starts, questions and tokens, with n and intervals."""
    rates = {
        (row["budget"], row["model"], row["starts"]): row
        for row in summary["success"]
        if row["task"] == "all"
    }
    asked = {(row["budget"], row["model"]): row for row in summary["questions"]}
    tokens = {(r["budget"], r["model"]): r["tokens_per_decision"] for r in summary["costs"]}
    head = ["budget", "model", *(f"{name} starts" for name in summary["starts"])]
    head += ["held-out QA", "tokens/decision"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for place, budget in enumerate(row["budget"] for row in summary["budgets"]):
        for model in summary["models"]:
            start = model == "specialist"  # the same under every budget
            if start and place:
                continue
            found = [rates[budget, model, name] for name in summary["starts"]]
            question = asked.get((budget, model))
            cells = ["-" if start else budget, model, *(_rate(row) for row in found)]
            cells += [_rate(question) if question else "-", f"{tokens[budget, model]:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rate(row: dict[str, Any]) -> str:
    bounds = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{100 * row['rate']:.1f} {bounds} {row['k']}/{row['n']}"


def render(summary: dict[str, Any]) -> str:
    """The table and how to read it."""
    steps = "; ".join(
        f"`{row['budget']}` {row['generalist_steps']} + {row['arm_steps']} steps"
        for row in summary["budgets"]
    )
    note = (
        f"Profile `{summary['profile']}`, seeds {', '.join(map(str, summary['seeds']))}, "
        f"{summary['success_mode'].replace('_', ' ')} success, `{summary['assets']}` assets; "
        f"percent with 95 % intervals over starts and seeds; budgets: {steps}."
    )
    return f"{table(summary)}\n\n{note}"


def main() -> None:
    """Replace what stands between the two marks, and the plots of success."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "ablation/report/summary.json")
    summary = files.read_json(source)
    written = render(summary)
    drawn = ablation_page.draw(summary)
    for budget in (row["budget"] for row in summary["budgets"]):
        name = f"success-{budget}.svg"
        files.write_text(PICTURES / name, svg.standalone(drawn[f"{budget}-success"]))
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    mark, tail = rest.split("\n", 1)
    files.write_text(README, f"{head}{BEGIN}{mark}\n{written}\n{END}{tail.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
