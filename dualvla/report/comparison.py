"""Measured models beside the published table, and what may not stand there in tables of its own.

A figure goes into a published column only if it is of that column's protocol on the official
assets; any other pack or protocol gets a table apart, which no argument can change. Nothing here
tests a measured model against a reported one: the papers print neither episodes nor intervals, and
their models are twenty times larger. Which two of our own models differ is the paired report's
matter; this page only gathers rates.

Two means have names of their own, because published averages differ in what they average: over the
nine columns that the paper prints, and over eleven, with put in drawer. A mean of which a column is
missing is not shown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation import statistics
from dualvla.report import rendering, reported
from dualvla.report.summary import ADVISED_TRIALS

SCHEMA = 1
NINE = tuple(column.key for column in reported.COLUMNS)
ELEVEN = (*NINE, "put_vm", "put_va")
COLUMNS = (*reported.COLUMNS, *reported.BESIDE)
PUBLISHED = frozenset(column.protocol for column in COLUMNS)
PACKS = ("generated", "official")
# What all results of one protocol and pack share; a hash says it all, where there is one.
SHARED = ("hash", "success_mode", "execute", "seed")

Row = dict[str, Any]


def collect(folders: Sequence[Path]) -> Row:
    """Every figure of the page.

    Args:
        folders: evaluations, each with a `summary.json`.

    Returns:
        schema; columns (key, title, protocol, trials) and the two means' members; reported (source
        and rows, percent); measured: a row a model with `cells` by column key, `mean_of_nine` and
        `mean_of_eleven`; apart: a table for each other pack and protocol; protocols; notes. Rates
        are in [0, 1].

    Raises:
        UserError: no evaluation, one that was given twice, or two of one protocol and pack that
            were made under different conditions.
    """
    results = [_read(Path(folder)) for folder in folders]
    if not results:
        raise UserError("no evaluation to compare", fix="name folders with a summary.json")
    _require_once(results)
    groups = _groups(results)
    for group in groups.values():
        _require_same(group)
    measured = [
        _measured(name, [one for one in results if one["model"] == name and _comparable(one)])
        for name in dict.fromkeys(one["model"] for one in results if _comparable(one))
    ]
    document: Row = {
        "schema": SCHEMA,
        "columns": [column._asdict() for column in COLUMNS],
        "nine": list(NINE),
        "eleven": list(ELEVEN),
        "reported": {"source": reported.SOURCE, "rows": reported.table()},
        "measured": measured,
        "apart": [_apart(group) for group in groups.values() if not _comparable(group[0])],
        "protocols": [_protocol(group) for group in groups.values()],
    }
    return document | {"notes": _notes(document)}


def html(document: Mapping[str, Any]) -> str:
    """The page; everything it needs is inside."""
    values = {**document, "style": Markup(rendering.page_style())}
    return rendering.render("comparison.html.j2", values, escape=True)


def markdown(document: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    return rendering.render("comparison.md.j2", document, escape=False)


WRITERS = {".html": html, ".md": markdown}


def write(folders: Sequence[Path], out: Path) -> None:
    """Write the page; the ending of `out`, .html or .md, says which.

    Raises:
        UserError: another ending, or what `collect` refuses.
    """
    if out.suffix not in WRITERS:
        what = f"no page of the kind {out.suffix or out.name!r}"
        raise UserError(what, where=str(out), fix=f"end it in {' or '.join(WRITERS)}")
    files.write_text(out, WRITERS[out.suffix](collect(folders)))


def mean(cells: Iterable[Row]) -> Row:
    """Unweighted mean of rates of independent columns: rate, low, high, n of all together.

    The interval is put together from each column's own (Zou, Huang and Zhang 2009), so that it
    neither leaves [0, 1] nor vanishes where all columns are 0 or 1.
    """
    rows = list(cells)
    rate = sum(row["rate"] for row in rows) / len(rows)
    below, above = (
        math.sqrt(sum((row[bound] - row["rate"]) ** 2 for row in rows)) / len(rows)
        for bound in ("low", "high")
    )
    bounds = {"low": rate - below, "high": rate + above}
    return {"rate": rate, **bounds, "n": sum(row["n"] for row in rows)}


def _read(folder: Path) -> Row:
    path = folder / "summary.json"
    data = files.read_json(path)
    try:
        protocol = data["protocol"]
        head = {key: data[key] for key in ("model", "assets", "success_mode", "execute", "seed")}
        rates = [
            {key: row[key] for key in ("starts", "task", "k", "n", "errors", "low", "high")}
            for row in data["rates"]
            if row["task"] != "all"
        ]
        result: Row = head | {"protocol": protocol["name"], "hash": protocol["hash"]}
    except (AttributeError, KeyError, TypeError) as error:
        what = f"not an evaluation's summary: no {error.args[0] if error.args else 'object'}"
        raise UserError(what, where=str(path), fix="dualvla evaluate writes one") from error
    if result["assets"] not in PACKS:
        fix = f"one of {', '.join(PACKS)}"
        raise UserError(f"unknown asset pack {result['assets']!r}", where=str(path), fix=fix)
    return result | {"reason": data.get("reason"), "rates": rates, "source": folder.as_posix()}


def _comparable(result: Row) -> bool:
    """Whether it may stand in a published column."""
    return result["assets"] == "official" and result["protocol"] in PUBLISHED


def _groups(results: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Results by pack and protocol, in the order given."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for one in results:
        groups.setdefault((one["assets"], one["protocol"]), []).append(one)
    return groups


def _require_once(results: Sequence[Row]) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for one in results:
        key = (one["model"], one["assets"], one["protocol"])
        if key in seen:
            what = f"{one['model']} on {one['protocol']}, {one['assets']} assets, is in two folders"
            fix = "name one of them, or give policies names: dualvla evaluate --name"
            raise UserError(what, where=f"{seen[key]}, {one['source']}", fix=fix)
        seen[key] = one["source"]


def _require_same(group: Sequence[Row]) -> None:
    first = group[0]
    for one in group[1:]:
        for key in SHARED:
            if one[key] != first[key]:
                what = f"{key} is {one[key]!r}, in {first['source']} {first[key]!r}"
                raise UserError(what, where=one["source"], fix="evaluate both by one protocol")


def _measured(model: str, results: Sequence[Row]) -> Row:
    """One model in the published columns; a column that it did not run is missing from `cells`."""
    cells: Row = {}
    for column in COLUMNS:
        rows = [
            row
            for one in results
            for row in one["rates"]
            if (one["protocol"], row["task"]) == (column.protocol, column.task)
        ]
        if rows:
            cells[column.key] = _pooled(rows)
    means = {
        name: mean(cells[key] for key in keys)
        if all(key in cells and cells[key]["n"] for key in keys)
        else None
        for name, keys in (("mean_of_nine", NINE), ("mean_of_eleven", ELEVEN))
    }
    reasons = list(dict.fromkeys(str(one["reason"]) for one in results))
    return {"model": model, "reason": ", ".join(reasons), "cells": cells, **means}


def _pooled(rows: Sequence[Row]) -> Row:
    """Rates of several rows as one; of a single row with its own interval.

    That may be wider than Wilson's, where a protocol repeats its starts.
    """
    counts = {key: sum(row[key] for row in rows) for key in ("k", "n", "errors")}
    own = {key: rows[0][key] for key in ("low", "high")} if len(rows) == 1 else {}
    return statistics.rate(counts["k"], counts["n"]) | own | {"errors": counts["errors"]}


def _apart(group: Sequence[Row]) -> Row:
    """A table of one pack and protocol: a row a model, a column a set of starts and task."""
    places = dict.fromkeys((row["starts"], row["task"]) for one in group for row in one["rates"])
    rows = [
        {
            "model": one["model"],
            "reason": one["reason"],
            "cells": {(row["starts"], row["task"]): _pooled([row]) for row in one["rates"]},
            "all": _pooled(one["rates"]),
        }
        for one in group
    ]
    head = {key: group[0][key] for key in ("assets", "protocol", "success_mode")}
    return {**head, "places": list(places), "rows": rows}


def _protocol(group: Sequence[Row]) -> Row:
    head = {key: group[0][key] for key in ("protocol", "assets", *SHARED)}
    return {**head, "sources": [one["source"] for one in group]}


def _notes(document: Row) -> list[str]:
    """What a reader must know before believing the figures; computed from them."""
    notes = [
        "Reported figures are the papers' own, of models of billions of parameters trained on real "
        "robot data, without episodes or intervals. No difference between a measured and a "
        "reported row is tested here."
    ]
    if not document["measured"]:
        notes.append("No result here is of a published protocol on the official assets.")
    titles = {column.key: column for column in COLUMNS}
    for row in document["measured"]:
        for key, cell in row["cells"].items():
            trials = titles[key].trials
            if cell["n"] != trials:
                notes.append(
                    f"{row['model']}, {titles[key].title}: {cell['n']} episodes, the published "
                    f"protocol has {trials}."
                )
    cells = [cell for row in document["measured"] for cell in row["cells"].values()]
    cells += [cell for table in document["apart"] for r in table["rows"] for cell in [r["all"]]]
    if errors := sum(cell["errors"] for cell in cells):
        notes.append(f"Episodes that ended in an error and count neither way: {errors}.")
    few = [cell["n"] for row in document["measured"] for cell in row["cells"].values()]
    if few and min(few) < ADVISED_TRIALS:
        notes.append(
            f"As few as {min(few)} trials a column; SimplerEnv's maintainers advise at least "
            f"{ADVISED_TRIALS}."
        )
    return notes
