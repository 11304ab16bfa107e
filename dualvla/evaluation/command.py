"""`dualvla evaluate`: any policy under any committed protocol."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dualvla.errors import UserError


def evaluate(
    *,
    policy: Annotated[
        str, typer.Option(help="expert, random, a checkpoint's folder, or ws://HOST:PORT")
    ],
    suite: Annotated[str, typer.Option(help="protocol: its name, or a YAML file")],
    out: Annotated[Path, typer.Option(help="folder to write; must not hold another result")],
    assets: Annotated[str, typer.Option(help="asset pack: generated or official")] = "generated",
    workers: Annotated[int, typer.Option(min=1, help="simulation processes; default: cores")] = (
        os.cpu_count() or 1
    ),
    tasks: Annotated[str | None, typer.Option(help="some of the suite's, such as carrot,stack")] = (
        None
    ),
    episodes: Annotated[
        int | None, typer.Option(min=1, help="first starts of each task; default: all")
    ] = None,
    videos: Annotated[int, typer.Option(min=0, help="films a task, of its first starts")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="of the policy's random choices")] = 0,
    reason: Annotated[str, typer.Option(help="auto, always, never or every_n")] = "auto",
    reason_every: Annotated[int, typer.Option(min=1, help="decisions, for every_n")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of a checkpoint")] = 1,
    name: Annotated[str, typer.Option(help="of the policy in results")] = "policy",
) -> None:
    """Evaluate a policy in closed loop: results, summary, films and the resolved protocol.

    A stopped run goes on where it stopped when the same command is given again. With `generated`
    assets no rate may be set beside published ones; `official` needs MS_ASSET_DIR.

    Example: dualvla evaluate --policy expert --suite canary --out out/canary

    A checkpoint: dualvla evaluate --policy models/dualvla --suite widowx --out out/dualvla

    Other people's: dualvla evaluate --policy ws://127.0.0.1:8000 --suite widowx --out out/theirs
    """
    from dualvla.evaluation import protocol

    if assets not in ("generated", "official"):
        raise UserError(f"no such asset pack: {assets}", fix="generated or official")
    if reason not in ("auto", "always", "never", "every_n"):
        raise UserError(f"no such way of reasoning: {reason}", fix="auto, always, never or every_n")
    chosen = protocol.load(suite)
    resolved = protocol.resolve(
        chosen,
        assets,  # type: ignore[arg-type]
        seed,
        tasks=tasks.split(",") if tasks else None,
        limit=episodes,
        videos=videos,
    )

    import torch

    from dualvla.evaluation import evaluator, policies
    from dualvla.simulation import vulkan

    if chosen.engine != "simpler_env":  # which renders in an environment of its own
        vulkan.require()
    torch.set_num_threads(threads)
    opened = policies.open_policy(
        policy,
        assets=resolved.assets,
        seed=seed,
        actions=chosen.execute if chosen.ensemble is None else None,
        reason=reason,  # type: ignore[arg-type]
        reason_every=reason_every,
    )
    work = evaluator.Work(
        partial=out.with_name(f".{out.name}.partial"),
        timing=out.with_name(f"{out.name}.timing.json"),
        workers=workers,
        name=name,
    )
    summary = _finished(out, work.timing, opened.to_json(), resolved.hash, opened.reason)
    if summary is None:
        summary = evaluator.evaluate(opened, resolved, out, work)
    _show(summary, out)


def _finished(out: Path, timing: Path, policy: dict[str, Any], protocol: str, reason: str) -> Any:
    """The summary in `out` if it is of the same evaluation; None if there is nothing.

    Raises:
        UserError: something else lies there.
    """
    from dualvla import files
    from dualvla.evaluation.evaluator import SUMMARY, code

    if not out.exists():
        return None
    where, fix = str(out), "choose another --out, or move it away"
    if not (out / SUMMARY).is_file():
        raise UserError("it is there and holds no evaluation", where=where, fix=fix)
    found = files.read_json(out / SUMMARY)
    same = (found.get("policy"), found.get("protocol", {}).get("hash"), found.get("reason"))
    if same != (policy, protocol, reason):
        raise UserError("it holds another evaluation", where=where, fix=fix)
    if not timing.is_file() or files.read_json(timing).get("code") != code():
        raise UserError("it was measured by other code of this package", where=where, fix=fix)
    return found


def _show(summary: dict[str, Any], out: Path) -> None:
    from dualvla.evaluation import simpler

    about = summary["protocol"]
    typer.echo(
        f"{summary['model']} under {about['name']} ({about['hash'][:12]}), {summary['assets']} "
        f"assets, {summary['success_mode']} success, seed {summary['seed']}, Wilson 95 %"
    )
    for row in summary["rates"]:
        typer.echo(simpler.line(row))
    typer.echo(f"{out / 'gallery.html'}")
