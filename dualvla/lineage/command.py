"""`dualvla lineage` and `dualvla reproduce`: nothing heavy is imported before one of them runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualvla.errors import UserError

if TYPE_CHECKING:
    from dualvla.lineage.chain import Chain

Profile = Annotated[
    str | None, typer.Option(help="overlay of params/; default: params.yaml as it is")
]
FORMS = (
    "a figure of the report (success.dualvla.official.all), a version (dualvla/production), "
    "or an episode (dualvla/official/carrot/official-03)"
)


def lineage(
    what: Annotated[str, typer.Argument(help=FORMS)],
    of: Annotated[
        str | None,
        typer.Option(help="read a published version's report and episodes, not the last run's"),
    ] = None,
    events: Annotated[
        Path | None, typer.Option(help="write the chain as OpenLineage events to this file too")
    ] = None,
    profile: Profile = None,
) -> None:
    """Print the chain from the data to a figure, a model version or an episode.

    Example: dualvla lineage success.dualvla.official.all

    A version: dualvla lineage dualvla/production --events lineage.json

    An episode of it: dualvla lineage dualvla/official/carrot/official-03 --of dualvla/production
    """
    import datetime

    from dualvla import files
    from dualvla.lineage import chain, openlineage

    found = _trace(what, of, profile)
    if events is not None:
        now = datetime.datetime.now(datetime.UTC)
        commit = found.record.commit
        told = openlineage.events(found.stages, found.record.summary, commit=commit, at=now)
        files.write_text(events, openlineage.dumps(told))
    typer.echo(chain.text(found), nl=False)


def reproduce(
    version: Annotated[str, typer.Argument(help="such as dualvla/production or retrain/HASH")],
    into: Annotated[Path, typer.Option(help="new folder; one of an earlier call goes on")],
    profile: Profile = None,
    commit: Annotated[
        str | None, typer.Option(help="its code's, if it was published before being committed")
    ] = None,
) -> None:
    """Make a published version again from git and S3, and compare; exit code 1 if it differs.

    Every stage runs anew, without any server: it takes as long as a first retrain.

    Example: dualvla reproduce dualvla/production --into /tmp/again
    """
    from dualvla.lineage import records, reproduction
    from dualvla.store.command import opened

    with opened(profile) as (plan, where):
        prefix = records.prefix_of(where, version)
        found = reproduction.reproduce(where, prefix, plan.root, into, commit)
    typer.echo(reproduction.table(found), nl=False)
    differ = sum(one.verdict == reproduction.DIFFERS for one in found)
    typer.echo(f"\n{prefix}: " + (f"{differ} differ" if differ else "identical"))
    if differ:
        raise typer.Exit(1)


def _trace(what: str, of: str | None, profile: str | None) -> "Chain":
    from dualvla import workspace
    from dualvla.lineage import chain, records
    from dualvla.store.command import opened

    parts = len(what.split("/"))
    if parts not in (1, 2, 4):
        raise UserError(f"{what} is nothing that has a lineage", fix=f"give {FORMS}")
    if parts == 2 or of is not None:
        with opened(profile) as (_, where):
            prefix = records.prefix_of(where, what if parts == 2 else str(of))
            record = records.of_version(where, prefix)
            if parts == 2:
                name = record.about.get("model")
                asked = f"{what} ({prefix})"
                return chain.model(record, name, asked) if name else chain.run(record, asked)
            return (chain.figure if parts == 1 else chain.episode)(record, what)
    record = records.of_workspace(workspace.plan(workspace.find_root(), profile).folder)
    return (chain.figure if parts == 1 else chain.episode)(record, what)
