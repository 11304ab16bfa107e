"""A decision as a Markdown page: one sentence, the table of checks, the paired counts."""

from collections.abc import Mapping
from typing import Any


def markdown(decision: Mapping[str, Any]) -> str:
    """The page; with a person's word at its end, where one was asked."""
    refused = [check["check"] for check in decision["checks"] if check["state"] == "failed"]
    against = decision["incumbent"] or "nothing, it is the first"
    word = "may become production" if not refused else f"is refused: {', '.join(refused)}"
    lines = [
        f"# {decision['model']} {decision['candidate']} {word}",
        f"Against {against}. Candidate minus incumbent, in points, 95 % paired intervals; "
        f"{decision['condition']['assets']} assets, success mode "
        f"{decision['condition']['success_mode']}.",
        _table(
            ("check", "outcome", "difference", "interval", "must stay above", "n", "remark"),
            [
                (
                    row["check"],
                    row["state"],
                    _points(row["difference"]),
                    _interval(row),
                    _points(row["bound"]),
                    "" if row["n"] is None else row["n"],
                    row["remark"],
                )
                for row in decision["checks"]
            ],
        ),
    ]
    if decision["comparisons"]:
        header = ("starts", "task", "n", "both", "only candidate", "only incumbent", "neither")
        keys = ("starts", "task", "n", "both", "first_only", "second_only", "neither")
        rows = [
            (*(row[key] for key in keys), _points(row["difference"]), _interval(row))
            for row in decision["comparisons"]
        ]
        lines.append(_table((*header, "difference", "interval"), rows))
    if approval := decision.get("approval"):
        said = "Approved" if approval["approved"] else "Refused"
        why = f": {approval['why']}" if approval["why"] else ""
        lines.append(f"{said} by {approval['who']}{why}")
    return "\n\n".join(lines) + "\n"


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _points(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
