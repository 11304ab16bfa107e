"""What all gates share: light import, one description, an honest verdict on every rule."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualvla import config, quality
from dualvla.quality import checks, page, run
from dualvla.quality.__main__ import markdown

ROOT = Path(__file__).parents[2]


def test_importing_the_gate_does_not_import_great_expectations():
    code = "import sys, dualvla.quality; print('great_expectations' in sys.modules)"
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert found.strip() == "False"


def test_the_documentation_is_what_the_suites_say():
    told = markdown(config.load(ROOT / "params.yaml"))
    assert (ROOT / "docs/quality.md").read_text() == told


def test_an_unknown_suite_is_a_defect(tmp_path, params):
    with pytest.raises(ValueError, match="no suite 'typo'"):
        quality.gate("typo", tmp_path, params=params)


RULES = {
    "columns": (checks.columns("a", "b", why=""), checks.columns("a", "z", why="")),
    "filled": (checks.filled("a", why=""), checks.filled("gap", why="")),
    "between": (checks.between("a", low=1, high=3, why=""), checks.between("a", low=2, why="")),
    "in_set": (
        checks.in_set("a", values=[1, 2, 3], why=""),
        checks.in_set("a", values=[1], why=""),
    ),
    "distinct": (checks.unique("a", why=""), checks.unique("b", why="")),
    "unique": (checks.unique("a", "b", why=""), checks.unique("b", "c", why="")),
    "rows": (checks.rows("", low=3), checks.rows("", low=4)),
    "ordered": (checks.ordered("b", "a", why=""), checks.ordered("a", "b", why="")),
    "equal": (checks.equal("b", "c", why=""), checks.equal("a", "b", why="")),
}


@pytest.mark.parametrize("rule", run.RULES)
def test_every_rule_can_pass_and_fail(rule):
    table = pd.DataFrame({"a": [1, 2, 3], "b": [4, 4, 4], "c": [4, 4, 4], "gap": [1, None, 3]})
    good, bad = RULES[rule]
    assert good.rule == bad.rule == rule
    report = run.evaluate({"t": [good, bad, checks.soft(bad)]}, {"t": table})
    assert report["counts"]["passed"] == 1
    assert report["counts"]["warned"] == 1
    assert report["counts"]["failed"] + report["counts"]["missing"] == 1
    assert not report["success"]


def test_a_warning_does_not_fail_a_gate():
    report = run.evaluate(
        {"t": [checks.soft(checks.filled("a", why=""))]}, {"t": pd.DataFrame({"a": [None, 1.0]})}
    )
    assert report["success"]
    assert report["counts"]["warned"] == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=8))
def test_bounds_are_judged_as_python_judges_them(values):
    table = pd.DataFrame({"item": range(len(values)), "a": values})
    report = run.evaluate({"t": [checks.between("a", low=-1, high=1, why="")]}, {"t": table})
    bad = [n for n, value in enumerate(values) if not -1 <= value <= 1]
    assert report["expectations"][0]["count"] == len(bad)
    assert [row["item"] for row in report["expectations"][0]["rows"]] == bad


def test_the_page_escapes_what_it_shows():
    table = pd.DataFrame({"item": ["<script>"], "a": [2]})
    report = run.evaluate({"t": [checks.between("a", high=1, why="")]}, {"t": table})
    html = page.render(report | {"suite": "s", "subject": None})
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
