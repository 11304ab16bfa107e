"""`dualvla benchmark`: a checkpoint under the eight multimodal benchmarks."""

from pathlib import Path
from typing import Annotated, Any

import typer


def benchmark(
    *,
    policy: Annotated[Path, typer.Option(help="a checkpoint's folder")],
    out: Annotated[Path, typer.Option(help="folder to write; must not hold another result")],
    tasks: Annotated[
        str | None, typer.Option(help="some, such as mmmu,docvqa; default: all eight")
    ] = None,
    data: Annotated[
        str, typer.Option(help="hub, self-made, or a folder of OWNER/NAME data sets")
    ] = "hub",
    limit: Annotated[int | None, typer.Option(min=1, help="first rows of each; default: all")] = (
        None
    ),
    repeats: Annotated[int, typer.Option(min=1, help="judgements a row of MM-Vet")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="questions answered at once")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 1,
) -> None:
    """Score a checkpoint with lmms-eval: MMMU, MM-Vet, MMStar, OCRBench, MMBench and three VQAs.

    lmms-eval lives in an environment of its own: bash infra/lmms_eval/setup.sh. MM-Vet needs a
    judge model: DUALVLA_JUDGE_URL, DUALVLA_JUDGE_MODEL and DUALVLA_JUDGE_KEY. The same command goes
    on where a stopped one was. Self-made rows try the harness and are no benchmark.

    Example: dualvla benchmark --policy models/dualvla --out out/benchmarks

    Without the hub: dualvla benchmark --policy models/dualvla --data self-made --out out/trial
    """
    from dualvla.evaluation.multimodal import tasks as benchmarks

    chosen = benchmarks.select([t.strip() for t in tasks.split(",") if t.strip()] if tasks else [])

    import torch

    from dualvla.evaluation.multimodal import harness

    torch.set_num_threads(threads)
    summary = harness.run(harness.Request(policy, chosen, data, out, limit, repeats, batch))
    for part in summary["benchmarks"]:
        typer.echo(line(part))
    mean = summary["mean"]
    if mean:
        typer.echo(f"{'mean':9} {mean['score']:5.1f}  of {mean['benchmarks']} benchmarks")
    typer.echo(str(out / harness.SUMMARY))


def line(part: dict[str, Any]) -> str:
    """One benchmark in a terminal: score, interval, rows, and what it may be called."""
    if part["status"] != "ok":
        return f"{part['title']:9} error  {part['error']}"
    low, high = part["interval"]
    return (
        f"{part['title']:9} {part['harness_score']:5.1f}  [{low:.1f}, {high:.1f}] "
        f"n={part['n']} of {part['rows']}, {part['label']}"
    )
