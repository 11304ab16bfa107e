"""Episodes an hour of closed-loop evaluation on the WidowX tasks, and what batching a policy gains.

Usage: python benchmarks/evaluation_speed.py [--policy tiny] [--sizes 640x480 224x224]
           [--engines simulation parallel] [--workers 2] [--count 128] [--episodes 6]
           [--json FILE] > docs/benchmarks/evaluation.md

`simulation` is worker processes around one policy, `parallel` one scene on a CUDA device; the
latter is left out where there is none. Each task runs its official starts, again from the first
where they do not suffice, to its full length and decides at every step as the published protocol
does. The first episode of each worker, or the first batch, builds scene and shaders and is not
counted: a whole suite does so once. Nothing is written to disk, films are drawn beside the rollouts
anyway. `tiny` is an untrained policy of the default shape that writes no text: what it costs does
not depend on its weights. The policy's own figure is made on pictures of noise.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from run_times import hardware
from step_time import policy as untrained

from dualvla import config, conventions, files
from dualvla.evaluation import policies
from dualvla.interface import Observation, Policy
from dualvla.simulation import parallel, rollouts, starts
from dualvla.simulation.environments import TASKS, Pack
from dualvla.simulation.episodes import Job

GOALS = {"640x480": 250, "224x224": 1500}  # episodes an hour on two cores
GPU_GOAL = 3850  # derived from vla-evaluation-harness's 16 shards: 128 observations/s
BATCHES = (1, 4, 16)
ROUNDS = 20


@contextlib.contextmanager
def opened(spec: str, assets: Pack, params: config.Params) -> Iterator[Policy]:
    """The policy to measure with; `tiny` is made in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        reason: config.Reason = "auto"
        if spec == "tiny":
            untrained(params, 0).write(Path(folder), resolved={}, environment={})
            spec, reason = folder, "never"
        yield policies.open_policy(spec, assets=assets, seed=0, actions=1, reason=reason).policy


def jobs(task: str, count: int) -> list[Job]:
    """Official starts of a task in turn, each with its own seed."""
    fixed = starts.fixed(task, "official")
    steps = TASKS[task].max_steps
    return [Job(task, fixed[k % len(fixed)], k, steps) for k in range(count)]


def measure(engine: str, task: str, policy: Policy, size: tuple[int, int], given: Any) -> float:
    """Seconds an episode of one task, once the scenes stand."""
    shared = {"assets": given.assets, "image_size": size, "execute": 1}
    if engine == "simulation":
        first = given.workers
        asked = jobs(task, first + given.episodes)
        ran = rollouts.run(asked, policy, workers=given.workers, retries=0, **shared)
    else:
        first = given.count
        asked = jobs(task, 2 * first)
        ran = parallel.run(asked, policy, count=given.count, **shared)
    for done, trajectory in enumerate(ran, 1):
        if trajectory.status != "ok":
            raise SystemExit(f"error: an episode of {task} failed: {trajectory.error}")
        if done == first:
            begin = time.perf_counter()
    return (time.perf_counter() - begin) / (len(asked) - first)


def decisions_a_second(policy: Policy, batch: int) -> float:
    """Of a policy that answers `batch` environments at once."""
    drawn = np.random.default_rng(0)
    seen = Observation(
        image=drawn.integers(0, 255, (224, 224, 3), np.uint8),
        state=np.zeros(7, np.float32),
        controller=np.zeros(6, np.float32),
        environment_state=np.zeros(len(conventions.ENVIRONMENT_STATE_NAMES), np.float32),
        instruction="put carrot on plate",
    )
    for slot in range(batch):
        policy.reset(slot, seen.instruction, slot)
    policy.act(list(range(batch)), [seen] * batch)
    begin = time.perf_counter()
    for _ in range(ROUNDS):
        policy.act(list(range(batch)), [seen] * batch)
    return batch * ROUNDS / (time.perf_counter() - begin)


def page(result: dict[str, Any]) -> str:
    """The report: what ran where, then the figures."""
    lines = [
        "# Evaluation speed",
        "",
        f"`python benchmarks/evaluation_speed.py`: policy `{result['policy']}`, "
        f"`{result['assets']}` assets, a decision a step, {result['episodes']} full episodes "
        f"a task, scenes standing; {result['hardware']}. Commit {result['commit']}. "
        f"{result['note']}".rstrip(),
        "",
        "| engine | pictures | "
        + " | ".join(TASKS)
        + " | all, as many of each, episodes/h | goal |",
        "|---|---|" + "---|" * (len(TASKS) + 2),
    ]
    for row in result["rows"]:
        hourly = [3600 / row["seconds"][task] for task in TASKS]
        whole = 3600 * len(TASKS) / sum(row["seconds"].values())
        cells = [row["engine"], row["size"], *(f"{rate:.0f}" for rate in hourly)]
        lines.append("| " + " | ".join([*cells, f"**{whole:.0f}**", f"{row['goal']}"]) + " |")
    if not any(row["engine"].startswith("parallel") for row in result["rows"]):
        lines += ["", "`parallel` was not measured: no CUDA device was at hand."]
    rates = result["decisions"]
    lines += [
        "",
        "| environments asked at once | decisions/s | against one by one |",
        "|---|---|---|",
    ]
    for batch, rate in rates.items():
        lines.append(f"| {batch} | {rate:.0f} | {rate / rates[BATCHES[0]]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="tiny", help="tiny, expert, random or a folder")
    parser.add_argument("--sizes", nargs="+", default=list(GOALS))
    parser.add_argument("--engines", nargs="+", default=["simulation", "parallel"])
    parser.add_argument("--assets", default="generated", choices=["generated", "official"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=128, help="episodes in one parallel scene")
    parser.add_argument("--episodes", type=int, default=6, help="counted, a task")
    parser.add_argument("--note", default="", help="a sentence for the page")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    params = config.parse(config.read_yaml("params.yaml"))
    rows = []
    with opened(given.policy, given.assets, params) as policy:
        rates = {batch: decisions_a_second(policy, batch) for batch in BATCHES}
        for engine in given.engines:
            if engine == "parallel" and not torch.cuda.is_available():
                sys.stderr.write("parallel: left out, no CUDA device\n")
                continue
            for size in given.sizes:
                width, height = map(int, size.split("x"))
                seconds = {}
                for task in TASKS:
                    seconds[task] = measure(engine, task, policy, (width, height), given)
                    rate = 3600 / seconds[task]
                    sys.stderr.write(f"{engine} {size} {task}: {rate:.0f} episodes/h\n")
                many = given.workers if engine == "simulation" else given.count
                goal = GOALS.get(size, "") if engine == "simulation" else GPU_GOAL
                row = {"engine": f"{engine}, {many}", "size": size, "seconds": seconds}
                rows.append(row | {"goal": goal})
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    device = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    result = {
        "policy": given.policy,
        "assets": given.assets,
        "episodes": given.episodes,
        "hardware": ", ".join([hardware(), *device]),
        "commit": commit.stdout.strip(),
        "note": given.note,
        "rows": rows,
        "decisions": rates,
    }
    if given.json:
        files.write_json(given.json, result)
    sys.stdout.write(page(result) + "\n")


if __name__ == "__main__":
    main()
