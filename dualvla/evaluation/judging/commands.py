"""`dualvla judge`: rate, calibrate and compare judges, and keep their knowledge base."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dualvla import config
    from dualvla.evaluation.judging.knowledge import Knowledge

app = typer.Typer(no_args_is_help=True, help="Judges of the VLA Score: docs/judges.md.")

Name = Annotated[str, typer.Option("--judge", help="rules or llm")]
Source = Annotated[Path, typer.Option("--from", help="results/evaluate/MODEL, or data/annotated")]
PerTask = Annotated[
    int | None, typer.Option("--per-task", min=1, help="first episodes of each task; default: all")
]
Frames = Annotated[int, typer.Option(min=2, max=64, help="pictures shown to the llm judge")]
Repeats = Annotated[int, typer.Option(min=1, max=99, help="answers of the llm judge, odd")]
Base = Annotated[str | None, typer.Option(help="knowledge base, FOLDER@VERSION")]
Examples = Annotated[int, typer.Option(min=0, max=16, help="nearest of it shown with each")]


@app.command()
def score(
    *,
    evaluation: Annotated[Path, typer.Option("--from", help="results/evaluate/MODEL")],
    out: Annotated[Path, typer.Option(help="folder to write")],
    judge: Name = "rules",
    per_task: PerTask = None,
    frames: Frames = 8,
    repeats: Repeats = 1,
    knowledge: Base = None,
    examples: Examples = 3,
) -> None:
    """Rate an evaluation with another judge than the stage's.

    Example: dualvla judge score --from results/evaluate/dualvla --judge llm --out out/llm/dualvla
    """
    from dualvla import files
    from dualvla.evaluation.judging import scoring

    settings = _settings(
        judge=judge,
        episodes_per_task=per_task,
        frames=frames,
        repeats=repeats,
        knowledge=knowledge,
        examples=examples,
    )
    model = str(files.read_json(evaluation / "summary.json")["model"])
    scored = scoring.rate(evaluation, model, settings)
    with files.replacing(out) as beside:
        scoring.write(scored, beside)


@app.command()
def calibrate(
    *,
    source: Source,
    out: Annotated[Path, typer.Option(help="folder for calibration.json and .md")],
    judge: Name = "rules",
    per_task: PerTask = None,
    frames: Frames = 8,
    repeats: Repeats = 1,
    knowledge: Base = None,
    examples: Examples = 3,
) -> None:
    """Plant faults in trajectories and see whether a judge notices; exit code 1 if it does not.

    Example: dualvla judge calibrate --from data/annotated --per-task 12 --out out/calibration
    """
    from dualvla import files
    from dualvla.evaluation.judging import calibration, cases, datasets, scoring

    settings = _settings(
        judge=judge,
        episodes_per_task=per_task,
        frames=frames,
        repeats=repeats,
        knowledge=knowledge,
        examples=examples,
    )
    if (source / "meta").is_dir():
        found = datasets.read(source, per_task)
    else:
        found = cases.read(source, per_task).cases
    table = calibration.calibrate(
        scoring.judge_of(settings), judge, found, source.as_posix().rstrip("/")
    )
    text = calibration.markdown(table)
    files.write_json(out / "calibration.json", table)
    files.write_text(out / "calibration.md", text)
    typer.echo(text, nl=False)
    raise typer.Exit(int(not all(row["lowered"] for row in table["faults"])))


@app.command()
def agree(
    first: Annotated[Path, typer.Argument(help="scores of one judge")],
    second: Annotated[Path, typer.Argument(help="scores of another, of the same evaluation")],
) -> None:
    """Compare how two judges order the same trajectories: Spearman's rank correlation.

    Example: dualvla judge agree results/score/dualvla out/llm/dualvla
    """
    from dualvla.evaluation.judging import agreement

    typer.echo("      n    rho     95 % interval   mean difference")
    for row in agreement.compare(first, second):
        rho = "    -" if row["rho"] is None else f"{row['rho']:+.2f}"
        bounds = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        typer.echo(f"{row['name']:5} {row['n']:3} {rho:>6}  {bounds}  {row['difference']:+.2f}")


@app.command()
def build(
    evaluations: Annotated[
        list[Path], typer.Option("--from", help="results/evaluate/MODEL; may be repeated")
    ],
    scores: Annotated[
        list[Path], typer.Option("--scores", help="results/score/MODEL; one for each --from")
    ],
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    count: Annotated[int, typer.Option(min=1, help="trajectories kept, the most diverse")] = 100,
) -> None:
    """Make a knowledge base of rated trajectories, which the llm judge is shown as examples.

    Example: dualvla judge build --from results/evaluate/M --scores results/score/M --out labels/kb
    """
    from dualvla.errors import UserError
    from dualvla.evaluation.judging import knowledge, review

    if len(evaluations) != len(scores):
        fix = "give as many --scores as --from"
        raise UserError(f"{len(evaluations)} evaluations, {len(scores)} scores", fix=fix)
    if out.exists():
        raise UserError("is there already", where=str(out), fix="remove it, or name another")
    knowledge.build(list(zip(evaluations, scores, strict=True)), out, count)
    _say(review.run(out))


@app.command(name="review")
def review_command(root: Annotated[Path, typer.Argument(help="knowledge base")]) -> None:
    """Take over the ratings edited in review.csv, then write it and review.html anew.

    Example: dualvla judge review labels/knowledge
    """
    from dualvla.evaluation.judging import review

    _say(review.run(root))


def _settings(**values: Any) -> "config.Score":
    from pydantic import ValidationError

    from dualvla import config
    from dualvla.errors import UserError

    try:
        return config.Score.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        raise UserError(first["msg"], where=where, fix="see --help") from error


def _say(base: "Knowledge") -> None:
    about = base.to_json()
    typer.echo(f"{about['reviewed']} of {about['trajectories']} trajectories reviewed")
    typer.echo(f"look at {base.root / 'review.html'}, edit {base.root / 'review.csv'}")
    typer.echo(f"score.knowledge: {base.root.as_posix()}@{base.version}")
