"""Print what every gate expects, as Markdown: `python -m dualvla.quality > docs/quality.md`.

The bounds shown are those of the parameter file, so the page of a profile is one command away.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator

from dualvla import config
from dualvla.errors import UserError
from dualvla.quality import SUITES
from dualvla.quality.checks import Check
from dualvla.quality.run import RULES

HEAD = """# Quality gates

Each stage checks what it wrote before its folder takes its final place. A gate is a Great
Expectations suite in `dualvla/quality/`; a hard expectation that fails stops the stage with exit
code 3 and names data set, episode and frame, a soft one is a warning. The outcome is `quality.json`
and `quality.html` beside the stage's output, and `.cache/quality/` keeps that of a failed stage.

This page is made by `python -m dualvla.quality`; bounds are those of `params.yaml`.
"""


def markdown(params: config.Params) -> str:
    """All suites with their tables and expectations, one Markdown table a suite."""
    return "\n".join([HEAD, *(line for suite in SUITES for line in _suite(suite, params))])


def _suite(suite: str, params: config.Params) -> Iterator[str]:
    module = importlib.import_module(f"dualvla.quality.{suite}")
    yield f"## {suite}\n"
    yield " ".join(str(module.__doc__).split("\n\n")[0].split()) + "\n"
    yield "| table | column | expected | or else | Great Expectations |\n|---|---|---|---|---|"
    for table, checks in module.checks(params).items():
        yield from (_row(table, check) for check in checks)
    yield ""


def _row(table: str, check: Check) -> str:
    names = ", ".join(f"`{name}`" for name in check.columns) or "all"
    if len(check.columns) > SHOWN:
        names = f"`{check.columns[0]}` ... `{check.columns[-1]}` ({len(check.columns)} columns)"
    expected = check.says() + (" (warning)" if check.soft else "")
    return f"| {table} | {names} | {expected} | {check.why} | `{RULES[check.rule]}` |"


SHOWN = 9  # columns listed by name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m dualvla.quality", description=__doc__)
    parser.add_argument("--params", default="params.yaml", help="parameter file")
    try:
        sys.stdout.write(markdown(config.load(parser.parse_args().params)))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
