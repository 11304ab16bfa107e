"""Review of a knowledge base by people: a page to look at, a table to edit, one command for both.

review.csv has a row a trajectory with its ratings. A person edits ratings or the note and writes
`yes` into `accept`, or `drop` to throw the trajectory out; running the command again checks the
whole table, takes it over and writes page and table anew. A table with any mistake changes nothing.
"""

import csv
import io
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation.judging import answers, frames, knowledge
from dualvla.evaluation.judging.knowledge import FRAMES, RATINGS, Knowledge

TABLE, PAGE = "review.csv", "review.html"
FIELDS = ("id", "success", *RATINGS, "failures", "note", "accept")
ACCEPT = ("", "yes", "drop")
FIX = "mend the row; see docs/judges.md"


def run(root: Path) -> Knowledge:
    """Take over review.csv if there is one, then write it and review.html from what now holds.

    Raises:
        UserError: no sound knowledge base, or a row of the table that is none.
    """
    base = knowledge.load(root)
    if (root / TABLE).is_file():
        index = _applied(base, _read(root / TABLE))
        if knowledge.version_of(index) != base.version:
            knowledge.write_index(root, index)
            base = knowledge.load(root)
            kept = {name for names in base.index["frames"] for name in names}
            for path in (root / FRAMES).glob("*.jpg"):
                if path.name not in kept:
                    path.unlink()
    files.write_text(root / TABLE, _table(base.index))
    files.write_text(root / PAGE, _page(base))
    return base


def _read(path: Path) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        rows = [dict(row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"no CSV table: {error}", where=str(path), fix="mend it") from error
    for number, row in enumerate(rows, start=2):
        if row.keys() != set(FIELDS) or None in row.values():
            what = f"line {number} has not the columns {', '.join(FIELDS)}"
            raise UserError(what, where=str(path), fix=FIX)
    return rows


def _applied(base: Knowledge, rows: list[dict[str, str]]) -> pd.DataFrame:
    """The index with the decisions of a table; rows that are not in the table stay."""
    where = str(base.root / TABLE)
    by_id = {str(row["id"]): row for row in base.index.to_dict("records")}
    if len({row["id"] for row in rows}) != len(rows):
        raise UserError("a trajectory is listed twice", where=where, fix=FIX)
    for row in rows:
        known, accept = by_id.get(row["id"]), row["accept"].strip().lower()
        if known is None:
            raise UserError(f"{row['id']} is not in the knowledge base", where=where, fix=FIX)
        if accept not in ACCEPT:
            what = f"{row['id']}: accept is {accept!r}, not yes, drop or empty"
            raise UserError(what, where=where, fix=FIX)
        edited = _edited(known, row, where)
        differs = any(
            known[k] != v and not (pd.isna(known[k]) and v is None) for k, v in edited.items()
        )
        if differs and not accept:
            what = f"{row['id']} is edited but not accepted"
            raise UserError(what, where=where, fix="write yes into accept")
        if accept == "drop":
            del by_id[row["id"]]
        elif accept == "yes":
            by_id[row["id"]] = known | edited | {"reviewed": True}
    if not by_id:
        raise UserError("nothing would be left", where=where, fix="keep some trajectories")
    return pd.DataFrame(list(by_id.values())).astype(dict.fromkeys(RATINGS, "Int8"))


def _edited(known: dict[Any, Any], row: dict[str, str], where: str) -> dict[str, Any]:
    """Ratings, failures and note of a row, checked as an answer of the llm judge would be."""
    ratings: dict[str, int | None] = {}
    for name in RATINGS:
        text = row[name].strip()
        wanted = not pd.isna(known[name])
        if not wanted and not text:
            ratings[name] = None
        elif wanted and text.isascii() and text.isdigit() and int(text) <= 10:
            ratings[name] = int(text)
        else:
            kind = "a whole number from 0 to 10" if wanted else "empty on the specialist scale"
            raise UserError(f"{row['id']}: {name} is {text!r}, not {kind}", where=where, fix=FIX)
    failures = sorted({part.strip() for part in row["failures"].split(";") if part.strip()})
    for name in failures:
        if name not in answers.FAILURES:
            fix = f"one of {', '.join(answers.FAILURES)}"
            raise UserError(f"{row['id']}: no such failure: {name}", where=where, fix=fix)
    return {**ratings, "failures": "; ".join(failures), "note": row["note"].strip()[:2000]}


def _table(index: pd.DataFrame) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in index.to_dict("records"):
        values = {key: row[key] for key in ("id", "success", "failures", "note")}
        ratings = {key: "" if pd.isna(row[key]) else int(row[key]) for key in RATINGS}
        writer.writerow(values | ratings | {"accept": "yes" if row["reviewed"] else ""})
    return out.getvalue()


def _page(base: Knowledge) -> str:
    loader = jinja2.PackageLoader("dualvla.evaluation.judging", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    rows = []
    for row in base.index.to_dict("records"):
        pictures = [
            frames.data_uri((base.root / FRAMES / name).read_bytes()) for name in row["frames"]
        ]
        ratings = {key: "-" if pd.isna(row[key]) else int(row[key]) for key in RATINGS}
        rows.append(row | {"pictures": pictures, "ratings": ratings})
    about = base.to_json()
    return environment.get_template("review.html.j2").render(rows=rows, about=about, table=TABLE)
