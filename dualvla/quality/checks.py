"""Expectations as data: what is checked, where, how hard, and why.

A suite lists `Check`s per table before any data is read. The same list feeds Great Expectations
(`run.py`), the report page and the documentation, so that none of the three can drift. Every check
is one of a few rules over flat scalar columns: what is not scalar (an action vector, a sentence, an
image) is first turned into numbers by the suite's `tables`. The price is that a suite's tables
hold some derived columns; the gain is that the rules stay Great Expectations' own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# A row is named by those of these columns that its table has, in this order.
IDENTITY = ("dataset", "episode_index", "frame_index", "item")

Checks = Mapping[str, list["Check"]]  # by table
Tables = dict[str, "pd.DataFrame"]


@dataclass(frozen=True)
class Check:
    """One rule over some columns of a table; a rule of single columns is run for each of them."""

    rule: str  # a key of run.RULES
    columns: tuple[str, ...]
    why: str  # what breaks when it does not hold
    arguments: Mapping[str, Any] = field(default_factory=dict)
    soft: bool = False  # recorded as a warning; does not stop the stage
    each: bool = True  # columns are checked one by one, not as one tuple

    def says(self) -> str:
        """The rule in words, without the columns."""
        low, high = self.arguments.get("min_value"), self.arguments.get("max_value")
        if self.rule == "in_set":
            return "one of " + ", ".join(str(value) for value in self.arguments["value_set"])
        if self.rule not in ("between", "rows"):
            return WORDS[self.rule]
        limits = f"at least {low}" if high is None else f"at most {high}"
        if low is not None and high is not None:
            limits = f"exactly {low}" if low == high else f"in [{low}, {high}]"
        return {"between": "", "rows": "number of rows "}[self.rule] + limits


WORDS = {
    "columns": "present",
    "filled": "neither missing nor NaN",
    "distinct": "no value twice",
    "unique": "no two rows alike",
    "ordered": "the first is at least the second",
    "equal": "the two are equal",
}


def columns(*names: str, why: str) -> Check:
    """The table has these columns; more are allowed."""
    return Check(
        "columns", names, why, {"column_set": list(names), "exact_match": False}, each=False
    )


def filled(*names: str, why: str) -> Check:
    """No missing value and no NaN."""
    return Check("filled", names, why)


def between(*names: str, why: str, low: float | None = None, high: float | None = None) -> Check:
    """Every value lies in [low, high]; missing values are `filled`'s business."""
    return Check("between", names, why, {"min_value": low, "max_value": high})


def holds(*names: str, why: str) -> Check:
    """Every value of a column of 0 and 1 is 1."""
    return Check("between", names, why, {"min_value": 1, "max_value": 1})


def in_set(*names: str, values: list[Any], why: str) -> Check:
    """Every value is one of `values`."""
    return Check("in_set", names, why, {"value_set": values})


def unique(*names: str, why: str) -> Check:
    """No two rows have the same values in these columns."""
    if len(names) == 1:
        return Check("distinct", names, why)
    return Check("unique", names, why, {"column_list": list(names)}, each=False)


def rows(why: str, *, low: int | None = None, high: int | None = None) -> Check:
    """The number of rows lies in [low, high]."""
    return Check("rows", (), why, {"min_value": low, "max_value": high}, each=False)


def ordered(greater: str, less: str, *, why: str) -> Check:
    """In every row the first column is at least the second."""
    arguments = {"column_A": greater, "column_B": less, "or_equal": True}
    return Check("ordered", (greater, less), why, arguments, each=False)


def equal(left: str, right: str, *, why: str) -> Check:
    """In every row the two columns are equal."""
    arguments = {"column_A": left, "column_B": right}
    return Check("equal", (left, right), why, arguments, each=False)


def soft(check: Check) -> Check:
    """The same check as a warning."""
    return replace(check, soft=True)
