"""`dualvla models`: look at the registry, fetch from it, and move `production`."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from dualvla.errors import QualityError, UserError

if TYPE_CHECKING:
    from dualvla.store.client import Place
    from dualvla.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    help="Published models: list, show, pull, compare, verify, promote, roll back.\n\n"
    "A VERSION is a name, its first digits, `candidate` or `production`.",
)

Profile = Annotated[
    str | None, typer.Option(help="overlay of params/; default: params.yaml as it is")
]
Model = Annotated[str, typer.Argument(help="such as dualvla; see `dualvla models list`")]
Version = Annotated[str, typer.Argument(help="a name, its first digits or an alias")]


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Argument(help="one model's only")] = None,
    profile: Profile = None,
) -> None:
    """List published versions, oldest first, with success on the first starts and aliases.

    Example: dualvla models list

    One model: dualvla models list dualvla
    """
    from dualvla.store import aliases, registry

    with opened(profile) as (_, where):
        for name in [model] if model else registry.models(where):
            named = {alias: aliases.read(where, name, alias).version for alias in aliases.NAMES}
            for one in registry.listing(where, name):
                about = one.manifest["about"]
                mine = ", ".join(alias for alias, version in named.items() if version == one.name)
                typer.echo(
                    f"{name:16} {one.name:16} {one.published:%Y-%m-%d %H:%M} {_success(about):42} "
                    f"{about['commit']:14} {mine}".rstrip()
                )


@app.command()
def show(
    model: Model,
    version: Version = "production",
    profile: Profile = None,
    card: Annotated[bool, typer.Option("--card", help="print the model card instead")] = False,
) -> None:
    """Print what a version is made of and how it did; for an alias, its history too.

    Example: dualvla models show dualvla production

    Its card: dualvla models show dualvla candidate --card
    """
    import yaml

    from dualvla.store import aliases, registry, versions

    with opened(profile) as (_, where):
        prefix = registry.prefix_of(where, model, version)
        manifest = versions.require(where, prefix)
        if card:
            typer.echo(versions.read(where, prefix, manifest, registry.CARD).decode(), nl=False)
            return
        whole = versions.published(prefix, manifest)
        shown = {"version": prefix, "files": whole.files, "bytes": whole.bytes, **manifest["about"]}
        if version in aliases.NAMES:
            shown["history"] = list(aliases.read(where, model, version).history)
        typer.echo(yaml.safe_dump(shown, sort_keys=False, width=100), nl=False)


@app.command()
def pull(
    model: Model,
    version: Version = "production",
    out: Annotated[Path | None, typer.Option(help="folder made; default: MODEL-VERSION")] = None,
    profile: Profile = None,
) -> None:
    """Download a version and verify every file; a stopped pull goes on where it stopped.

    Example: dualvla models pull dualvla production --out out/dualvla
    """
    from dualvla.store import registry, versions

    with opened(profile) as (_, where):
        prefix = registry.prefix_of(where, model, version)
        target = out or Path(f"{model}-{Path(prefix).name}")
        count, read = versions.pull(where, prefix, target)
    typer.echo(f"{target}: {count} files of {prefix} verified, {read / 2**20:.1f} MiB read")


@app.command()
def diff(model: Model, first: Version, second: Version, profile: Profile = None) -> None:
    """Compare two versions: success, parameters, data and files that differ.

    Example: dualvla models diff dualvla production candidate
    """
    from dualvla.store import differences, registry, versions

    with opened(profile) as (_, where):
        one, other = (
            versions.require(where, registry.prefix_of(where, model, name))
            for name in (first, second)
        )
    lines = differences.between(one, other)
    typer.echo("\n".join(lines) if lines else "nothing differs")


@app.command()
def verify(model: Model, version: Version = "production", profile: Profile = None) -> None:
    """Read every object of a version back and compare its SHA-256.

    Example: dualvla models verify dualvla production
    """
    from dualvla.store import registry, versions

    with opened(profile) as (_, where):
        prefix = registry.prefix_of(where, model, version)
        count = versions.verify(where, prefix)
    typer.echo(f"{prefix}: {count} files are what was published")


@app.command()
def promote(
    model: Model,
    version: Version = "candidate",
    check: Annotated[bool, typer.Option("--check", help="decide only; nothing is moved")] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="as a Prefect run that waits for a person's approval")
    ] = False,
    profile: Profile = None,
) -> None:
    """Make a version production if it is not worse than the present one; exit code 3 if it is.

    Example: dualvla models promote dualvla candidate

    Only look: dualvla models promote dualvla candidate --check
    """
    if ask and check:
        raise UserError("--check moves nothing, --ask would", fix="give one of the two")
    if ask:
        _flow("promote", profile, "--model", model, "--version", version, "--approve")
    from dualvla.promotion import page, proposals

    with opened(profile) as (plan, where):
        proposal = proposals.propose(where, model, version, plan.params.promotion)
        typer.echo(page.markdown(proposal.decision), nl=False)
        moved = None if check else proposals.carry_out(where, proposal, plan.root)
    if moved is not None:
        typer.echo(f"\nproduction of {model} is {moved.version}")
    elif not proposal.decision["accepted"]:
        raise QualityError(f"{model} {proposal.decision['candidate']} may not become production")


@app.command()
def rollback(
    model: Model,
    to: Annotated[str | None, typer.Option(help="a version that was production before")] = None,
    why: Annotated[str, typer.Option(help="kept in the history")] = "",
    profile: Profile = None,
) -> None:
    """Return production to the version before the last promotion.

    Example: dualvla models rollback dualvla --why "drops cubes on robot 3"
    """
    from dualvla.store import aliases, registry

    with opened(profile) as (_, where):
        target = registry.resolve(where, model, to) if to else None
        now = aliases.rollback(where, model, to=target, why=why)
    typer.echo(f"production of {model} is {now.version}, was {now.history[-1]['from']}")


@contextlib.contextmanager
def opened(profile: str | None) -> "Iterator[tuple[Workspace, Place]]":
    """The project and its bucket; what S3 refuses or drops is one clear error."""
    from dualvla import workspace
    from dualvla.store import client, outages

    plan = workspace.plan(workspace.find_root(), profile)
    where = client.place(plan.params.store, plan.root)
    client.check(where, create=where.local)
    with outages.told(where):
        yield plan, where


def _flow(name: str, profile: str | None, *arguments: str) -> NoReturn:
    """Start Prefect where it is local, and become the flow's process."""
    from dualvla import doctor, stack, workspace

    root = workspace.find_root()
    names = doctor.needed_servers(workspace.plan(root, profile))
    for server, url in (stack.up(root, names=names) if names else {}).items():
        typer.echo(f"{server:8} {url}")
    os.environ.update(stack.environment(root))
    chosen = ["--profile", profile] if profile else []
    command = [sys.executable, "-m", f"flows.{name}", "--root", str(root), *chosen, *arguments]
    sys.stdout.flush()
    os.execv(sys.executable, command)


def _success(about: dict[str, Any]) -> str:
    rows = [row for row in about["metrics"]["success"] if row["task"] == "all"]
    if not rows or rows[0]["rate"] is None:
        return "no episode"
    row = rows[0]
    bounds = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    return f"{row['starts']} {100 * row['rate']:.1f} % ({bounds}, n {row['n']})"
