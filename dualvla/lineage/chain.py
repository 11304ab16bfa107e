"""From a figure, a model or an episode back to the data: its stages, what they read and wrote.

Nothing is looked up by time: a stage belongs to the chain because the md5 of what it wrote is in
the lock as what the next one read. The gates are those of the report, beside the data they judged.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dualvla import paths
from dualvla.errors import UserError
from dualvla.lineage.records import Record
from dualvla.report import lineage

# What names a row of each list in the summary, in the order of a dotted path.
KEYS = {
    "success": ("model", "starts", "task"),
    "modes": ("model", "mode"),
    "comparisons": ("first", "second", "starts", "task"),
    "decisions": ("model",),
    "questions": ("model", "kind"),
    "vla_score": ("model",),
    "diagnosis": ("model",),
    "retention": ("kind", "group", "layer"),
    "training": ("model",),
    "quality": ("suite", "subject"),
    "events": ("method",),
}
EPISODE = ("model", "starts", "task", "start_id")


@dataclass(frozen=True)
class Chain:
    """What was asked for, what is known of it, and the stages that led to it, sources first."""

    subject: str
    facts: Mapping[str, Any]
    record: Record
    stages: list[dict[str, Any]]


def figure(record: Record, path: str) -> Chain:
    """The chain of a figure in `summary.json`.

    Args:
        record: the run.
        path: dotted: a section, what names the row (`success.dualvla.official.all`) or its number,
            and a key in it if one value is meant.

    Raises:
        UserError: no such figure, several of them, or one that comes from no stage.
    """
    section, *rest = path.split(".")
    if section not in record.summary:
        known = ", ".join(sorted(KEYS))
        raise UserError(f"the report has no {section}", where=path, fix=f"one of {known}")
    row, value = _find(record.summary[section], rest, section, path)
    sources = _sources(record, section, row)
    if not sources:
        raise UserError("it comes from no stage", where=path, fix="ask for a measured figure")
    stages = [lineage.stage_of(record.lock, Path(source)) for source in sources]
    return _chain(path, row if isinstance(value, dict) else row | {"value": value}, record, stages)


def model(record: Record, name: str, subject: str) -> Chain:
    """The chain of a published model with all that was measured of it."""
    rows = [row for row in record.summary["success"] if row["model"] == name]
    facts = {f"{row['starts']} {row['task']}": f"{row['k']}/{row['n']}" for row in rows}
    return _chain(subject, facts, record, [*lineage.of_model(record.lock, name)])


def run(record: Record, subject: str) -> Chain:
    """The chain of a whole run, up to its report."""
    facts = {"verdict": record.summary["verdict"]["text"]}
    return _chain(subject, facts, record, [*record.lock])


def episode(record: Record, path: str) -> Chain:
    """The chain of one episode of an evaluation.

    Args:
        record: the run.
        path: model, set of starts, task and start, such as `dualvla/official/carrot/official-03`.

    Raises:
        UserError: no such evaluation or episode.
    """
    import pandas as pd

    name, *key = path.split("/")
    place = paths.EVALUATION / name
    table = pd.read_parquet(io.BytesIO(record.read(place / "results.parquet")))
    for column, wanted in zip(EPISODE[1:], key, strict=True):
        known = list(dict.fromkeys(table[column]))
        table = table[table[column] == wanted]
        if table.empty:
            fix = f"one of {', '.join(map(str, known[:20]))}"
            raise UserError(f"no episode with {column} {wanted}", where=str(place), fix=fix)
    rows = json.loads(table.to_json(orient="records"))
    facts = {key: value for key, value in rows[0].items() if value is not None}
    return _chain(path, facts, record, [lineage.stage_of(record.lock, place)])


def _chain(subject: str, facts: Mapping[str, Any], record: Record, stages: list[Any]) -> Chain:
    names = list(dict.fromkeys(name for name in stages if name is not None))
    if not names:
        fix = "run the pipeline by `dualvla retrain`"
        raise UserError("no stage of dvc.lock wrote it", where=subject, fix=fix)
    return Chain(subject, facts, record, lineage.ancestry(record.lock, names))


def _find(node: Any, rest: list[str], section: str, path: str) -> tuple[dict[str, Any], Any]:
    """The row around a figure, and the figure."""
    row: dict[str, Any] = node if isinstance(node, dict) else {}
    while True:
        if isinstance(node, list):
            node, rest = _row(node, rest, section, path)
            row = (row if "source" in row else {}) | node
        if not rest:
            return row, node
        joined = ".".join(rest)
        if isinstance(node, dict) and joined in node:  # some keys have dots of their own
            return row, node[joined]
        if isinstance(node, dict) and rest[0] in node:
            node, rest = node[rest[0]], rest[1:]
        elif isinstance(node, dict) and isinstance(node.get("rows"), list):
            node = node["rows"]
        else:
            known = ", ".join(node) if isinstance(node, dict) else "nothing below it"
            raise UserError(f"no {joined} there", where=path, fix=f"there is {known}")


def _row(
    rows: list[Any], rest: list[str], section: str, path: str
) -> tuple[dict[str, Any], list[str]]:
    """The one row of a list that the beginning of a path names, and the rest of the path."""
    if rest and rest[0].isdigit() and int(rest[0]) < len(rows):
        return rows[int(rest[0])], rest[1:]
    for key in KEYS.get(section, ()):
        known = list(dict.fromkeys(str(row[key]) for row in rows if row[key] is not None))
        if not known or (len(rows) == 1 and (not rest or rest[0] not in known)):
            continue
        if not rest or rest[0] not in known:
            what = f"no {key} {rest[0]}" if rest else f"it names several rows, by {key}"
            raise UserError(what, where=path, fix=f"one of {', '.join(known)}")
        rows, rest = [row for row in rows if str(row[key]) == rest[0]], rest[1:]
    if len(rows) != 1:
        raise UserError(f"it names {len(rows)} rows", where=path, fix="give the row's number")
    return rows[0], rest


def _sources(record: Record, section: str, row: Mapping[str, Any]) -> list[str]:
    """Paths in the workspace that a row was read from."""
    if row.get("source") and section != "reported":
        return [row["source"]]
    models = {
        "modes": lambda: [row["model"]],
        "comparisons": lambda: [row["first"], row["second"]],
        "verdict": lambda: record.summary["models"],
    }
    found = models[section]() if section in models else []
    return [(paths.EVALUATION / name).as_posix() for name in found]


def text(chain: Chain) -> str:
    """The chain for people: data with its gates, stage, parameters, code and result."""
    gates = _gates(chain.record)
    commit = f", commit {chain.record.commit}" if chain.record.commit else ""
    facts = ", ".join(f"{key} {_short(value)}" for key, value in chain.facts.items())
    lines = [chain.subject, f"  is      {facts}", f"  from    {chain.record.place}{commit}"]
    for row in chain.stages:
        params = [
            f"{key} = {_short(value)}"
            for values in row["values"].values()
            for key, value in sorted(values.items())
        ]
        files = row["files"]
        lines += ["", f"{row['stage']}"]
        lines += _items("data", files["data"], gates) or ["  data    none: it makes the first"]
        lines.append(f"  params  {'; '.join(params) or 'none'}")
        lines.append(f"  code    {row['cmd']} ({len(files['code'])} paths, {row['code'] or '-'})")
        lines += _items("result", files["outs"], gates)
        lines.append(f"  chain   {row['chain']}")
    return "\n".join(lines) + "\n"


def _items(title: str, found: Mapping[str, str | None], gates: Mapping[str, str]) -> list[str]:
    lines = []
    for number, (path, md5) in enumerate(sorted(found.items())):
        gate = [told for source, told in gates.items() if _within(source, path)]
        tail = f"  [{'; '.join(gate)}]" if gate else ""
        lines.append(f"  {'' if number else title:7} {path} {md5 or 'unknown'}{tail}")
    return lines


def _gates(record: Record) -> dict[str, str]:
    """What each gate of the report said, by the file it left beside the data."""
    told = {}
    for row in record.summary["quality"]:
        counts = ", ".join(f"{number} {name}" for name, number in row["counts"].items() if number)
        state = "passed" if row["success"] else "FAILED"
        told[row["source"]] = f"gate {row['suite']} {state}: {counts}"
    return told


def _within(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | dict):
        shown = json.dumps(value, sort_keys=True)
        return shown if len(shown) < 80 else f"{shown[:76]} ..."
    return str(value)
