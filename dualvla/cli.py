"""The `dualvla` command.

It imports nothing heavy and neither Prefect nor DVC: those run as child processes, so that help and
errors come at once. Bad input ends with one line on standard error and exit code 2, a failed
quality gate with 3, everything else that fails with 1.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dualvla.busy import WhenBusy
from dualvla.errors import UserError
from dualvla.evaluation.command import evaluate as evaluate_policy
from dualvla.evaluation.judging.commands import app as judge_app
from dualvla.evaluation.multimodal.command import benchmark as benchmark_policy
from dualvla.lineage.command import lineage as trace_lineage
from dualvla.lineage.command import reproduce as reproduce_version
from dualvla.report.command import compare as compare_results
from dualvla.serving.command import serve as serve_policy
from dualvla.store.command import app as models_app

app = typer.Typer(
    help="Retrain reasoning VLA models without losing motor skill.\n\n"
    "Start with: dualvla retrain --profile smoke",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
params_app = typer.Typer(no_args_is_help=True, help="Show params.yaml or patch it with an overlay.")
app.add_typer(params_app, name="params")
app.add_typer(models_app, name="models")
app.add_typer(judge_app, name="judge")

Profile = Annotated[
    str | None, typer.Option(help="overlay of params/; default: params.yaml as it is")
]
WhileBusy = Annotated[WhenBusy, typer.Option(help="while another run holds the folder")]

# A terminal line of a run: time, stage, text.
LOG_FORMAT = {
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s | %(task_run_name)s | "
    "%(message)s",
}


@app.command()
def up() -> None:
    """Start Prefect and S3 on this machine and wait until they answer.

    Example: dualvla up

    Other ports: DUALVLA_PORT_BASE=24200 dualvla up
    """
    from dualvla import stack, workspace

    for name, url in stack.up(workspace.find_root()).items():
        typer.echo(f"{name:8} {url}")


@app.command()
def down() -> None:
    """Stop this project's Prefect and S3; what they stored stays.

    Example: dualvla down
    """
    from dualvla import stack, workspace

    stopped = stack.down(workspace.find_root())
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def status(profile: Profile = None) -> None:
    """Show servers and which stages would run.

    Example: dualvla status --profile smoke
    """
    from dualvla import stack, workspace

    plan = workspace.plan(workspace.find_root(), profile)
    for name, (url, state) in stack.status(plan.root).items():
        typer.echo(f"{name:8} {url} {state}")
    if not (plan.folder / "dvc.yaml").is_file():
        typer.echo(f"profile {plan.profile} has not run yet")
        return
    raise typer.Exit(_child(plan, [sys.executable, "-m", "dvc", "status", "dvc.yaml"]))


@app.command()
def retrain(profile: Profile = None, when_busy: WhileBusy = "refuse") -> None:
    """Run every stage that changed, with Prefect's UI, and publish the result to S3.

    Example: dualvla retrain --profile smoke

    After the run that is under way: dualvla retrain --when-busy wait
    """
    _flow(profile, when_busy=when_busy)


@app.command()
def ablate(profile: Profile = None, when_busy: WhileBusy = "refuse") -> None:
    """Train and evaluate every arm under every budget and seed, with one report of it all.

    Example: dualvla ablate --profile smoke
    """
    _flow(profile, flow="ablate", when_busy=when_busy)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help="when, as in crontab, UTC")] = "0 2 * * *",
    profile: Profile = None,
) -> None:
    """Retrain on a schedule: serve a Prefect deployment until stopped.

    Example: dualvla schedule --cron "0 2 * * *"
    """
    # Prefect says what a time is, and is asked before a server is started for it.
    asked = [sys.executable, "-m", "flows.retrain", "--cron", cron, "--validate"]
    if code := subprocess.run(asked, check=False).returncode:
        raise typer.Exit(code)
    _flow(profile, "--cron", cron)


@app.command()
def deploy(
    pool: Annotated[str, typer.Option(help="whose workers train: cpu or gpu")] = "cpu",
    slots: Annotated[int, typer.Option(min=1, help="runs that hold the GPUs at a time")] = 1,
    bucket: Annotated[bool, typer.Option("--bucket", help="make the bucket too")] = False,
) -> None:
    """Send schedules, pools and automations to Prefect's server; again changes nothing.

    Example: dualvla deploy

    Tell a chat of failed runs: DUALVLA_WEBHOOK_URL=https://... dualvla deploy --pool gpu
    """
    from dualvla import deployment, workspace

    raise typer.Exit(deployment.deploy(workspace.find_root(), pool, slots, bucket=bucket))


@app.command()
def worker(
    pool: Annotated[str, typer.Option(help="cpu, gpu or promotion")] = "cpu",
    name: Annotated[str | None, typer.Option(help="in Prefect's UI; default: by machine")] = None,
) -> None:
    """Take scheduled runs of a pool and run them here, until stopped.

    Example: dualvla worker --pool gpu
    """
    from dualvla import deployment, workspace

    deployment.enter_worker(workspace.find_root(), pool, name)


@app.command()
def secrets(
    folder: Annotated[
        Path | None, typer.Argument(help="new folder for the files; default: infra/env")
    ] = None,
) -> None:
    """Write random secrets for infra/compose.yaml into files that only you can read.

    Example: dualvla secrets
    """
    from dualvla import deployment, workspace

    plan = workspace.plan(workspace.find_root())
    folder = folder or plan.root / "infra/env"
    for path in deployment.write_secrets(folder, plan.params.store.bucket):
        typer.echo(str(path))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def repro(context: typer.Context, profile: Profile = None) -> None:
    """Run `dvc repro` without any server; further arguments go to DVC.

    Example: dualvla repro --profile smoke

    One stage: dualvla repro -s prune
    """
    from dualvla import workspace
    from dualvla.store import client

    plan = workspace.plan(workspace.find_root(), profile)
    where = client.place(plan.params.store, plan.root)
    with workspace.exclusive(plan.folder):
        workspace.write(plan, client.remote_config(where, plan.root))
        code = _child(plan, [sys.executable, "-m", "dvc", "repro", *context.args])
    raise typer.Exit(code)


@app.command()
def doctor(profile: Profile = None) -> None:
    """Check this machine and say how to mend what is missing; exit code 1 if something is.

    Example: dualvla doctor
    """
    from dualvla import doctor as checks
    from dualvla import workspace

    plan = workspace.plan(workspace.find_root(), profile)
    findings = checks.examine(plan)
    for finding in findings:
        typer.echo(f"{finding.state:5} {finding.name:8} {finding.detail}")
        if finding.fix:
            typer.echo(f"{'':14} -> {finding.fix}")
    raise typer.Exit(int(any(finding.state == "bad" for finding in findings)))


@app.command()
def report(
    profile: Profile = None,
    show: Annotated[bool, typer.Option("--open", help="open it in a browser")] = False,
) -> None:
    """Print where the report of the last run lies.

    Example: dualvla report --profile smoke --open
    """
    from dualvla import paths, workspace

    plan = workspace.plan(workspace.find_root(), profile)
    page = plan.folder / paths.REPORT / "index.html"
    if not page.is_file():
        fix = f"`dualvla retrain --profile {plan.profile}`"
        raise UserError("no report yet", where=str(page), fix=fix)
    typer.echo(str(page))
    if show:
        typer.launch(page.as_uri())


app.command("evaluate")(evaluate_policy)
app.command("benchmark")(benchmark_policy)
app.command("serve")(serve_policy)
app.command("compare")(compare_results)
app.command("lineage")(trace_lineage)
app.command("reproduce")(reproduce_version)


@app.command()
def label(
    root: Annotated[
        Path | None,
        typer.Option(help="data set to label; default: data/annotated or data/demonstrations"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="label file; default: labels/boundaries.json")
    ] = None,
    episodes: Annotated[str | None, typer.Option(help="which, such as 0-4,7; default: all")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 0,
    show: Annotated[bool, typer.Option("--open/--no-open", help="open it in a browser")] = True,
) -> None:
    """Mark by key presses where episodes need reasoning, in a page on this machine.

    The learned scene layer is trained on it where a data set has no simulator phases. Every key
    press is saved; an episode counts once it was declared done (Enter). Ctrl-C ends it.

    Example: dualvla label

    Some episodes: dualvla label --episodes 0-9 --no-open
    """
    from dualvla.labelling import session
    from dualvla.labelling.server import Server

    server = Server(session.begin(root, out, episodes), port)
    typer.echo(f"{server.url}  (Ctrl-C ends it)")
    if show:
        typer.launch(server.url)
    server.serve()
    typer.echo(session.summary(server.session))


@params_app.command()
def show(profile: Profile = None) -> None:
    """Print the parameters a run would use.

    Example: dualvla params show --profile smoke
    """
    import yaml

    from dualvla import workspace

    plan = workspace.plan(workspace.find_root(), profile)
    typer.echo(yaml.safe_dump(dict(plan.values), sort_keys=False), nl=False)


@params_app.command()
def use(profile: Annotated[str, typer.Argument(help="overlay of params/")]) -> None:
    """Write params.yaml anew: the default patched with an overlay.

    Example: dualvla params use study

    Back again: dualvla params use default
    """
    from dualvla import workspace

    path = workspace.use(workspace.find_root(), profile)
    typer.echo(f"{path.name} is {profile} now")


def _flow(
    profile: str | None, *more: str, flow: str = "retrain", when_busy: WhenBusy = "refuse"
) -> NoReturn:
    """Check the machine, start the servers, become the flow's process."""
    from dualvla import doctor, stack, workspace

    root = workspace.find_root()
    plan = workspace.plan(root, profile)
    typer.echo(f"profile {plan.profile} in {plan.folder}; checking this machine")
    doctor.preflight(plan, waits=when_busy == "wait")
    names = doctor.needed_servers(plan)
    for name, url in (stack.up(root, names=names) if names else {}).items():
        typer.echo(f"{name:8} {url}")
    os.environ.update(stack.environment(root))
    os.environ.update(LOG_FORMAT)
    arguments = ["--root", str(root), *(["--profile", profile] if profile else []), *more]
    arguments += ["--when-busy", when_busy]
    sys.stdout.flush()
    # Taking this process's place: a signal reaches the flow without a middleman.
    os.execv(sys.executable, [sys.executable, "-m", f"flows.{flow}", "--checked", *arguments])


def _child(plan: Any, command: list[str]) -> int:
    """Run a program in a workspace with this Python first on the path; return its exit code."""
    from dualvla import workspace

    return subprocess.run(
        command, cwd=plan.folder, env=workspace.environment(plan), check=False
    ).returncode


def main(command: Callable[[], Any] = app) -> NoReturn:
    """Entry point: errors meant for the user become one line."""
    try:
        command()
    except UserError as error:
        from dualvla import redaction

        typer.echo(redaction.redact(f"error: {error}"), err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        from dualvla.stages.runner import DISK_FULL

        if error.errno not in DISK_FULL:
            raise
        typer.echo(f"error: {error.filename or Path.cwd()}: disk full -> free some space", err=True)
        sys.exit(UserError.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
