"""Suite of results: every rate is a rate, has its n and its interval, and few episodes broke.

It serves any folder with a `summary.json`: each mapping in it that states a value with an interval
(`low`, `high`, or `score_interval` beside `score`) or successes of trials (`k`, `n`) becomes a row,
named by its place and its labels.
That needs no list of who writes what; the price is that a figure without n or interval is not seen,
unless nothing in the whole file has them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dualvla import files
from dualvla.config import Params
from dualvla.quality.checks import (
    Checks,
    Tables,
    between,
    columns,
    filled,
    ordered,
    rows,
    soft,
    unique,
)

VALUES = ("rate", "accuracy", "score", "mean", "value", "share")
LABELS = ("starts", "task", "kind", "model", "name", "metric")
COLUMNS = ["item", "value", "k", "n", "low", "high", "error_share", "rate_gap"]
ERRORS = 0.05  # of episodes that broke: beyond it, the rest is no fair sample
EXACT = 1e-6


def checks(params: Params) -> Checks:
    """Expectations by table."""
    return {
        "rates": [
            rows("no figure with n and interval", low=1),
            columns(*COLUMNS, why="a figure comes with n and interval"),
            unique("item", why="two figures for one thing"),
            filled("n", "value", why="a rate of no trials"),
            between("n", low=1, why="a rate of no trials"),
            between("k", low=0, why="a count"),
            ordered("n", "k", why="more successes than trials"),
            between("value", "low", "high", low=0, high=1, why="a share, not percent"),
            ordered("value", "low", why="the interval does not contain the rate"),
            ordered("high", "value", why="the interval does not contain the rate"),
            between("rate_gap", low=0, high=EXACT, why="the rate is not k / n"),
            between("error_share", low=0, high=ERRORS, why="too many episodes broke"),
            soft(between("error_share", low=0, high=0, why="episodes broke and are not counted")),
        ],
    }


def tables(out: Path, params: Params) -> Tables:
    """All rates of `summary.json`, one row each."""
    found = [_row(place, data) for place, data in _rates(files.read_json(out / "summary.json"), "")]
    table = pd.DataFrame(found, columns=COLUMNS)
    for name in COLUMNS[1:]:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return {"rates": table}


def _rates(data: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Mappings that state a rate, with their place in the file."""
    if isinstance(data, list):
        for number, item in enumerate(data):
            labels = (
                "/".join(str(item[k]) for k in LABELS if k in item)
                if isinstance(item, dict)
                else ""
            )
            yield from _rates(item, f"{place}[{labels or number}]")
    elif isinstance(data, dict):
        if {"k", "n"} <= set(data) or ({"low", "high"} <= set(data) and set(VALUES) & set(data)):
            yield place or "all", data
        for name in VALUES:
            if f"{name}_interval" in data:
                low, high = data[f"{name}_interval"]
                figure = {"value": data.get(name), "low": low, "high": high}
                rest = {key: data[key] for key in ("n", "errors") if key in data}
                yield f"{place}.{name}" if place else name, figure | rest
        for key in sorted(data):
            yield from _rates(data[key], f"{place}.{key}" if place else key)


def _row(place: str, data: dict[str, Any]) -> dict[str, Any]:
    value = next((data[name] for name in VALUES if data.get(name) is not None), None)
    k, n = data.get("k"), data.get("n")
    return {
        "item": place,
        "value": value,
        "k": 0 if k is None else k,  # a mean counts no successes
        "n": n,
        "low": data.get("low"),
        "high": data.get("high"),
        "error_share": data.get("errors", 0) / max((n or 0) + data.get("errors", 0), 1),
        "rate_gap": abs(k / n - value) if n and None not in (k, value) else 0.0,
    }
