"""Environment steps a second of rollouts with a policy that costs nothing.

Usage: python benchmarks/rollout_speed.py [--size 224] [--workers 2] [--episodes 4]
Every step counts, rendered only where a decision is made; building the scenes is not counted.
"""

import argparse
import os
import platform
import time

from dualvla import progress
from dualvla.simulation import assets, rollouts, starts
from dualvla.simulation.environments import TASKS
from dualvla.simulation.episodes import Job
from dualvla.simulation.random_policy import RandomPolicy


def main() -> None:
    """Measure and print one line a task and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=4, help="a task and worker")
    parser.add_argument("--execute", type=int, default=4, help="actions a decision")
    given = parser.parse_args()
    assets.activate("generated")
    progress.log(f"{platform.machine()}, {os.cpu_count()} cores, {given.workers} workers")
    steps = seconds = 0.0
    for task, spec in TASKS.items():
        fixed = starts.fixed(task, "official")[: given.workers * (given.episodes + 1)]
        jobs = [Job(task, s, 0, spec.max_steps, video=False) for s in fixed]
        running = rollouts.run(
            jobs,
            RandomPolicy(),
            assets="generated",
            image_size=given.size,
            workers=given.workers,
            execute=given.execute,
            retries=0,
        )
        done = 0
        for count, trajectory in enumerate(running):
            if count < given.workers:  # these built the scenes
                begin = time.perf_counter()
            else:
                done += len(trajectory.actions)
        elapsed = time.perf_counter() - begin
        progress.log(f"{task:<10} {done / elapsed:6.0f} steps/s")
        steps, seconds = steps + done, seconds + elapsed
    progress.log(f"{'all':<10} {steps / seconds:6.0f} steps/s at {given.size}x{given.size}")


if __name__ == "__main__":
    main()
