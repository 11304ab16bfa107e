"""What a run cost, from the `timings` of its summary: totals, and the share of one model.

Wall times of stages are summed although stages run side by side: the sum is what one machine would
take for one stage after the other. A total of nothing measured is null, never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

SUMS = (
    *("seconds", "cpu_seconds", "gpu_seconds"),
    *("energy_joules", "s3_sent_bytes", "s3_received_bytes"),
)
PEAKS = ("peak_rss_mib", "peak_rss_child_mib", "gpu_peak_mib")


def total(rows: Sequence[Row]) -> dict[str, Any]:
    """Sums and peaks of rows of `timings`, and how many `measured` rows of `stages` they are of.

    `energy_of` are the parts that every measured energy covers.
    """
    measured = [row for row in rows if row["seconds"] is not None]
    parts = [set(row["energy_of"]) for row in measured if row["energy_joules"] is not None]
    return {
        "stages": len(rows),
        "measured": len(measured),
        **{key: _over(sum, key, measured) for key in SUMS},
        **{key: _over(max, key, measured) for key in PEAKS},
        "energy_of": sorted(set.intersection(*parts)) if parts else [],
    }


def of_model(model: str, summary: Row) -> list[Row]:
    """Rows of `timings` of every stage that led to a model and its results."""
    above = {row["stage"]: row["upstream"] for row in summary["lineage"]["stages"]}
    todo = [stage for stage in above if stage.split("@")[-1] == model]
    wanted: set[str] = set()
    while todo:
        stage = todo.pop()
        if stage not in wanted:
            wanted.add(stage)
            todo += above.get(stage, [])
    return [row for row in summary["timings"] if row["stage"] in wanted]


def _over(how: Any, key: str, rows: Iterable[Row]) -> float | None:
    known = [row[key] for row in rows if row[key] is not None]
    return how(known) if known else None
