"""The commands about results: nothing heavy is imported before one of them runs."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    results: Annotated[list[Path], typer.Argument(help="folders of evaluations")],
    out: Annotated[Path, typer.Option(help="page to write: .html or .md")],
) -> None:
    """Put measured models beside the published table, labelled.

    Only results of the official assets and a published protocol stand there; all others get
    tables of their own.

    Example: dualvla compare results/evaluate/dualvla results/evaluate/specialist --out page.html
    """
    from dualvla.report import comparison

    comparison.write(results, out)
    typer.echo(str(out))
