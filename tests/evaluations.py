"""Runs a small evaluation in a process of its own, which a test may kill.

`python evaluations.py POLICY OUT WORKERS EPISODES [TASKS]`: canary's settings at a small picture.
"""

import sys
from pathlib import Path

from dualvla.evaluation import evaluator, policies, protocol

IMAGE = {"width": 96, "height": 72}


def resolved(episodes=2, tasks=("carrot", "stack"), steps=12, videos=1, assets="generated"):
    """A short protocol: every part of a real one, with fewer and shorter episodes."""
    data = protocol.load("canary").model_dump() | {"name": "short", "camera": IMAGE}
    blocks = [{"task": t, "starts": "official", "max_steps": steps} for t in tasks]
    chosen = protocol.parse(data | {"episodes": blocks}, "test")
    return protocol.resolve(chosen, assets, 0, limit=episodes, videos=videos)


def run(spec, out, workers=1, plan=None, **changes):
    """Evaluate a policy by name."""
    plan = plan or resolved()
    opened = policies.open_policy(spec, assets=plan.assets, seed=0, actions=None)
    work = evaluator.Work(
        partial=out.with_name(f".{out.name}.partial"),
        timing=out.with_name("timing.json"),
        workers=workers,
        **changes,
    )
    return evaluator.evaluate(opened, plan, out, work)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), resolved(int(sys.argv[4])))
