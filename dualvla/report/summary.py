"""Every figure of the report as one JSON document (docs/report-schema.md, version `SCHEMA`).

The page and its Markdown twin are rendered from this document alone, so that machines read exactly
what people see. It is gathered from the result files of the stages; nothing is measured here. Wall
times and memory are the only part that changes between two runs on the same inputs: they stand
under `timings` and as `seconds_per_decision`, and nowhere else.
"""

from pathlib import Path
from typing import Any

from dualvla.config import Params
from dualvla.report import comparisons, lineage, reported, sections

SCHEMA = 2
ADVISED_TRIALS = 75  # a task, by SimplerEnv's maintainers

Row = dict[str, Any]


def collect(params: Params) -> Row:
    """Gather the summary from the workspace, the current folder.

    Raises:
        UserError: a result is missing, or models were evaluated under different conditions.
    """
    models: list[str] = list(params.evaluate.models)
    evaluations = {name: sections.evaluation(name) for name in models}
    condition = sections.condition(evaluations)
    episodes = {name: sections.episodes(name) for name in models}
    success = [
        row for name in models for row in sections.success(name, evaluations[name], episodes[name])
    ]
    rows = comparisons.compare(episodes, condition["success_mode"])
    headline = params.evaluate.starts[0]
    summary: Row = {
        "schema": SCHEMA,
        "profile": params.profile,
        "seed": params.seed,
        "models": models,
        "tasks": list(params.simulation.tasks),
        "starts": list(params.evaluate.starts),
        **condition,
        "verdict": comparisons.verdict(rows, headline, models),
        "success": success,
        "modes": [row for name in models for row in sections.modes(name, evaluations[name])],
        "comparisons": rows,
        "decisions": [sections.decisions(name, evaluations[name]) for name in models],
        "questions": [
            *sections.base_questions(),
            *(row for name in models for row in sections.questions(name)),
        ],
        "vla_score": [sections.score(name) for name in models],
        "diagnosis": [sections.diagnosis(name) for name in models],
        "events": sections.events(),
        "retention": sections.retention(),
        "training": sections.training(("base_vlm", *models)),
        "demonstrations": sections.demonstrations(),
        "quality": sections.quality(),
        "videos": sections.videos(models),
        "reported": {
            "source": reported.SOURCE,
            "note": reported.note(condition["assets"]),
            "rows": reported.rows(models),
        },
    }
    summary["lineage"] = _lineage(summary)
    summary["notes"] = _notes(summary)
    summary["timings"] = _timings(summary)
    return summary


def _notes(summary: Row) -> list[str]:
    """What a reader must know before believing the figures; computed from them."""
    notes = [
        "Intervals and tests cover the choice of start states. Each model was trained once, so "
        "they do not cover the choice of training seed."
    ]
    per_task = [row["n"] for row in summary["success"] if row["task"] != "all"]
    if per_task and min(per_task) < ADVISED_TRIALS:
        notes.append(
            f"As few as {min(per_task)} trials a task; SimplerEnv's maintainers advise at least "
            f"{ADVISED_TRIALS}."
        )
    errors = sum(row["errors"] for row in summary["success"] if row["task"] == "all")
    if errors:
        notes.append(f"{errors} episodes ended in an error; they count neither way.")
    changed = [row["file"] for row in summary["lineage"]["sources"] if row["state"] == "changed"]
    if changed:
        notes.append(f"Not what dvc.lock recorded: {', '.join(changed)}. Run `dvc repro`.")
    return notes


def _lineage(summary: Row) -> Row:
    lock = lineage.read_lock()
    sources = [
        {
            "file": name,
            "md5": lineage.md5(Path(name)),
            "stage": lineage.stage_of(lock, Path(name)),
            "state": lineage.state(lock, Path(name)),
        }
        for name in _named_sources(summary)
    ]
    names = dict.fromkeys(row["stage"] for row in sources if row["stage"])
    return {"sources": sources, "stages": lineage.ancestry(lock, names)}


def _timings(summary: Row) -> list[Row]:
    """A row a stage of the lineage, null where it did not run in this workspace; then the rest."""
    measured = {row["stage"]: row for row in sections.timings()}
    order = [row["stage"] for row in summary["lineage"]["stages"]]
    unknown = dict.fromkeys(sections.TIMING_KEYS)
    rows = [measured.pop(name, {"stage": name, **unknown}) for name in order]
    return rows + [row for name, row in measured.items() if name != "report"]


def _named_sources(summary: Row) -> list[str]:
    lists = ("success", "questions", "vla_score", "diagnosis", "retention", "training", "quality")
    rows = [row for section in lists for row in summary[section]]
    rows += [summary["events"], summary["demonstrations"]]
    return sorted({row["source"] for row in rows} - {None})
