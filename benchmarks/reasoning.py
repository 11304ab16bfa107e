"""What reasoning buys, and what it costs: one model under never, auto, always and every_n.

Usage: python benchmarks/reasoning.py MODEL... [--starts official:24 ...]
           [--modes never auto always every_n] [--json FILE] > docs/benchmarks/reasoning.md

Models are folders of a workspace (models/dualvla, ablation/models/short-0/decoupled); run it in the
workspace's folder. Every mode meets the same starts with the same noise. Decisions per second count
the policy alone, with the pictures' encoding, in the calling process.
"""

import argparse
import contextlib
import itertools
import sys
from pathlib import Path
from typing import Any

import resuming
import torch
from run_times import hardware

from dualvla import config, files, progress
from dualvla.config import Evaluate, Params
from dualvla.evaluation import protocol, simpler, statistics
from dualvla.evaluation.acting import ModelPolicy
from dualvla.simulation import rollouts

MODES = ("never", "auto", "always", "every_n")
STARTS = ("official:24", "instruct_rephrased:24", "instruct_situated:24")
HEAD = (
    "| model | reason | starts | success [95 %] | k/n | tokens/decision | texts/decision "
    "| decisions/s |\n|---|---|---|---|---|---|---|---|"
)


def measure(params: Params, path: Path, evaluate: Evaluate) -> list[dict[str, Any]]:
    """Figures of one model under one mode, a row for each set of starts."""
    nightly = protocol.nightly(evaluate, params.simulation)
    planned = protocol.resolve(nightly, params.simulation.assets, params.seed).planned
    tasks = params.simulation.tasks
    rows = []
    for name in evaluate.starts:
        own = [item for item in planned if item.starts == name]
        # A worker holds one task's scene: all starts of a task run in a row.
        chosen = [item for task in tasks for item in own if item.job.task == task]
        policy = ModelPolicy(path, evaluate, params.seed)
        ran = rollouts.run(
            [item.job for item in chosen],
            policy,
            assets=params.simulation.assets,
            image_size=params.simulation.image_size,
            workers=params.simulation.workers,
            execute=evaluate.execute,
            retries=evaluate.retries,
        )
        tracked = progress.track(ran, len(chosen), f"{path.name} {evaluate.reason} {name}")
        outcome = simpler.collect(chosen, tracked, evaluate.success_mode)
        found = simpler.summary(outcome, evaluate.success_mode)
        rate = next(row for row in found["rates"] if row["task"] == "all")
        kept = ("k", "n", "rate", "low", "high", "errors")
        rows.append(
            {"model": str(path), "reason": evaluate.reason, "starts": name}
            | {key: rate[key] for key in kept}
            | {key: found[key] for key in ("tokens_per_decision", "texts_per_decision")}
            | {"decisions_per_second": found["decisions"] / outcome.seconds}
        )
    return rows


def page(rows: list[dict[str, Any]], params: Params, commit: str, argv: str) -> str:
    """The figures as Markdown."""
    lines = [
        "# Reasoning: when it helps",
        "",
        f"Commit {commit}; {hardware()}; profile `{params.profile}`, seed {params.seed}, "
        f"{params.evaluate.success_mode} success, `{params.simulation.assets}` assets, "
        f"Wilson 95 % intervals; `{argv}`.",
        "",
        HEAD,
    ]
    for row in rows:
        share = statistics.rate(row["k"], row["n"])
        interval = f"{share['rate']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"
        lines.append(
            f"| {row['model']} | {row['reason']} | {row['starts']} | {interval} "
            f"| {row['k']}/{row['n']} | {row['tokens_per_decision']:.2f} "
            f"| {row['texts_per_decision']:.3f} | {row['decisions_per_second']:.1f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--starts", nargs="+", default=STARTS, help="set:first starts of each task")
    parser.add_argument("--commit", default="?", help="whose models these are")
    parser.add_argument("--json", type=Path, help="figures; what is in it is not measured again")
    given = parser.parse_args()
    told = " ".join(["reasoning.py", *sys.argv[1:]])
    params = config.load()
    torch.set_num_threads(params.threads)
    first = {name: int(count) for name, count in (s.split(":") for s in given.starts)}
    asked = {"tasks": params.simulation.tasks, "starts": first, "seed": params.seed}
    asked |= resuming.settings(params)
    weights = {path: files.sha256(path) for path in given.models}
    rows = [
        row
        for row in resuming.rows(given.json, asked)
        if weights.get(Path(row["model"])) in (row["weights"], None)
    ]
    done = {(row["model"], row["reason"]) for row in rows}
    with contextlib.redirect_stdout(sys.stderr):
        for path, mode in itertools.product(given.models, given.modes):
            if (str(path), mode) in done:
                continue
            patch = {"reason": mode, "starts": tuple(first), "episodes_per_task": first}
            evaluate = params.evaluate.model_copy(update=patch | {"videos_per_task": 0})
            rows += [row | {"weights": weights[path]} for row in measure(params, path, evaluate)]
            resuming.keep(given.json, asked, rows)
    sys.stdout.write(page(rows, params, given.commit, told))


if __name__ == "__main__":
    main()
