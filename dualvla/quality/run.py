"""Runs a suite with Great Expectations and turns the outcome into a report or an error.

Each table is one batch of an ephemeral context: suites live in code, nothing is stored, nothing is
sent. The outcome holds no run id, time or duration, so that the same output gives the same
`quality.json`. An expectation that could not be evaluated because its column is missing counts as
failed, but says so, and is reported first: it is usually the cause of the others.
"""

import importlib
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualvla import files
from dualvla.errors import QualityError
from dualvla.quality import SUITES, page
from dualvla.quality.checks import IDENTITY, Check, Checks, Tables

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

NOTHING = "missing or NaN"
NAMED_ROWS = 10  # failing rows named in the report
NAMED_IN_ERROR = 3  # failing rows, and failed expectations, named in the error
RULES = {
    "columns": "ExpectTableColumnsToMatchSet",
    "filled": "ExpectColumnValuesToNotBeNull",
    "between": "ExpectColumnValuesToBeBetween",
    "in_set": "ExpectColumnValuesToBeInSet",
    "distinct": "ExpectColumnValuesToBeUnique",
    "unique": "ExpectCompoundColumnsToBeUnique",
    "rows": "ExpectTableRowCountToBeBetween",
    "ordered": "ExpectColumnPairValuesAToBeGreaterThanB",
    "equal": "ExpectColumnPairValuesToBeEqual",
}
ORDER = ("missing", "failed", "warned", "passed")


def gate(
    suite: str,
    out: Path,
    params: Any,
    *,
    subject: str | None,
    inputs: Mapping[str, Any],
    reports: Path,
) -> None:
    """Check `out`, write the reports, raise `QualityError` on a hard failure: `quality.gate`."""
    if suite not in SUITES:
        raise ValueError(f"no suite {suite!r}, only {', '.join(SUITES)}")
    module = importlib.import_module(f"dualvla.quality.{suite}")
    report = evaluate(module.checks(params), module.tables(out, params, **inputs))
    report |= {"suite": suite, "subject": subject}
    name = "-".join([suite, *(subject or "").split("/")]).rstrip("-")
    html = page.render(report)
    for folder, stem in ((reports, name), (out, "quality")):
        files.write_json(folder / f"{stem}.json", report)
        files.write_text(folder / f"{stem}.html", html)
    if not report["success"]:
        where = suite if subject is None else f"{suite} of {subject}"
        fix = f"read {reports / name}.html, mend the data or the expectation, run the stage again"
        raise QualityError(summary(report), where=where, fix=fix)


def evaluate(checks: Checks, tables: Tables) -> dict[str, Any]:
    """Validate tables; the report as plain data, worst expectations first.

    Returns:
        `success`, `counts` by status, `tables` (rows a table) and `expectations`: table, columns,
        rule, why, hard, status (missing, failed, warned, passed), observed, count and rows.
    """
    tables = {name: _named(table) for name, table in tables.items()}
    outcomes = [row for name in checks for row in _validate(name, checks[name], tables[name])]
    outcomes.sort(key=lambda outcome: ORDER.index(outcome["status"]))
    counts = {status: sum(o["status"] == status for o in outcomes) for status in ORDER}
    return {
        "schema": 1,
        "success": not counts["missing"] and not counts["failed"],
        "counts": counts,
        "tables": {name: len(tables[name]) for name in sorted(checks)},
        "expectations": outcomes,
    }


def _named(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table whose rows have a name and, for Great Expectations, a label of their own each."""
    table = table.reset_index(drop=True)
    if not set(IDENTITY) & set(table):
        return table.assign(item=[f"row {number}" for number in range(len(table))])
    return table


def summary(report: Mapping[str, Any]) -> str:
    """The worst failures in one line, with the rows that break them."""
    failed = [o for o in report["expectations"] if o["status"] in ("missing", "failed")]
    # What could not be evaluated for want of a column follows from the column's own expectation.
    failed.sort(key=lambda o: o["status"] == "missing" and o["rule"] != "columns")
    texts = []
    for outcome in failed[:NAMED_IN_ERROR]:
        text = f"{' and '.join(outcome['columns']) or outcome['table']}: {outcome['expected']}"
        if outcome["status"] == "missing":
            text = f"{text}, but {outcome['observed']}"
        elif outcome["rows"]:
            named = "; ".join(row_name(row) for row in outcome["rows"][:NAMED_IN_ERROR])
            more = outcome["count"] - NAMED_IN_ERROR
            text = f"{text}, but {named}" + (f" and {more} more" if more > 0 else "")
        else:
            text = f"{text}, but {outcome['observed']}"
        texts.append(f"{text} ({outcome['why']})")
    rest = len(failed) - len(texts)
    texts += [f"{rest} more expectations failed"] if rest else []
    return " | ".join(texts)


def row_name(row: Mapping[str, Any]) -> str:
    """A failing row in words: `sim, episode 3, frame 7: action.z is 0.5`."""
    words = {"episode_index": "episode ", "frame_index": "frame "}
    names = [f"{words.get(key, '')}{row[key]}" for key in IDENTITY if row.get(key) is not None]
    values = [
        f"{key} is {NOTHING if value is None else value}"
        for key, value in row.items()
        if key not in IDENTITY
    ]
    return ", ".join(names) + (": " + ", ".join(values) if values else "")


def _validate(name: str, checks: list[Check], table: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    expanded = [(check, part) for check in checks for part in _parts(check)]
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    expectations = [_expectation(*pair, number) for number, pair in enumerate(expanded)]
    index = [column for column in IDENTITY if column in table]
    result_format = {
        "result_format": "SUMMARY",
        "unexpected_index_column_names": index,
        "include_unexpected_rows": False,
        "partial_unexpected_count": NAMED_ROWS,
    }
    gx_log = logging.getLogger("great_expectations")
    level = gx_log.level
    gx_log.setLevel(logging.CRITICAL)  # a missing column is reported by us, not as a traceback
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
            quiet = ProgressBarsConfig(globally=False)
            config = DataContextConfig(store_backend_defaults=stores, progress_bars=quiet)
            context = gx.get_context(mode="ephemeral", project_config=config)
            asset = context.data_sources.add_pandas("stage").add_dataframe_asset(name)
            batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
                {"dataframe": table}
            )
            suite = gx.ExpectationSuite(name=name, expectations=expectations)
            found = batch.validate(suite, result_format=result_format)
            results: list[dict[str, Any]] = found.to_json_dict()["results"]  # type: ignore[no-untyped-call]
    finally:
        gx_log.setLevel(level)
    by_number = {result["expectation_config"]["meta"]["number"]: result for result in results}
    for number, (check, part) in enumerate(expanded):
        yield _outcome(name, check, part, by_number[number], table)


def _parts(check: Check) -> list[tuple[str, ...]]:
    return [(column,) for column in check.columns] if check.each else [check.columns]


def _expectation(check: Check, part: tuple[str, ...], number: int) -> "Expectation":
    import great_expectations.expectations as gxe

    arguments = dict(check.arguments) | ({"column": part[0]} if check.each else {})
    severity = "warning" if check.soft else "critical"
    meta = {"number": number}
    expectation: Expectation = getattr(gxe, RULES[check.rule])(
        **arguments, severity=severity, meta=meta
    )
    return expectation


def _outcome(
    table_name: str,
    check: Check,
    part: tuple[str, ...],
    result: Mapping[str, Any],
    table: "pd.DataFrame",
) -> dict[str, Any]:
    details = result["result"]
    absent = [column for column in part if column not in table]
    status = "passed" if result["success"] else "warned" if check.soft else "failed"
    observed = _plain(details.get("observed_value"))
    if absent:
        status = "warned" if check.soft else "missing"
        observed = f"column {', '.join(absent)} is missing"
    elif not details:
        # Not a missing column: the expectation itself is broken, which is a defect of the suite.
        raise RuntimeError(f"{table_name}.{'.'.join(part)}: {_exception(result)}")
    elif check.rule == "columns":
        observed = "all present"
    rows = (
        []
        if absent
        else [_row(row, part) for row in details.get("partial_unexpected_index_list") or []]
    )
    count = details.get("unexpected_count", 0)
    if observed is None:
        observed = f"{count} of {details.get('element_count', len(table))} rows break it"
    return {
        "table": table_name,
        "columns": list(part),
        "rule": check.rule,
        "expected": check.says(),
        "why": check.why,
        "hard": not check.soft,
        "status": status,
        "observed": observed,
        "count": count,
        "rows": rows,
    }


def _row(row: Mapping[str, Any], part: tuple[str, ...]) -> dict[str, Any]:
    order = [key for key in IDENTITY if key in row] + [key for key in part if key not in IDENTITY]
    return {key: _plain(row.get(key)) for key in order}


def _plain(value: Any) -> Any:
    """As JSON can say it: floats of six digits, `nan` and `inf` as words."""
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return str(value)


def _exception(result: Mapping[str, Any]) -> str:
    info = result["exception_info"]
    infos = [info] if "exception_message" in info else list(info.values())
    return "; ".join(str(item["exception_message"]) for item in infos)
