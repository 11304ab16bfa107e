"""A stage that takes no time, or does what the file `behave.json` says it should."""

import json
import os
import sys
import time
from pathlib import Path

OUTS = {
    "demonstrations": "data/demonstrations",
    "annotate": "data/annotated",
    "prune": "data/pruned",
    "report": "report",
}
SUMMARY = {
    "schema": 1,
    "profile": "toy",
    "seed": 0,
    "assets": "generated",
    "success_mode": "last_step",
    "verdict": {"text": "no difference"},
    "success": [
        {
            "model": "dualvla",
            "starts": "official",
            "task": "all",
            "k": 1,
            "n": 2,
            "rate": 0.5,
            "low": 0.1,
            "high": 0.9,
        }
    ],
    "retention": [{"group": "all", "layer": "keep", "k": 3, "n": 10, "rate": 0.3}],
    "quality": [
        {
            "suite": "pruned",
            "subject": None,
            "success": True,
            "counts": {"passed": 4},
            "remarks": [],
            "source": "data/pruned/quality.json",
        }
    ],
}


def main() -> int:
    stage = sys.argv[1]
    name = f"{stage}@{sys.argv[3]}" if "--arm" in sys.argv else stage
    behave = json.loads(os.environ.get("TOY", "{}")).get(name, {})
    print(f"{name} says hello", flush=True)
    time.sleep(behave.get("sleep", 0))
    if "message" in behave:
        print(f"error: {behave['message']}", file=sys.stderr)
    if "kill_once" in behave and not Path(behave["kill_once"]).exists():
        Path(behave["kill_once"]).touch()
        os.kill(os.getpid(), 9)
    if behave.get("exit"):
        return int(behave["exit"])
    out = Path("models") / sys.argv[3] if stage == "distill" else Path(OUTS[stage])
    out.mkdir(parents=True, exist_ok=True)
    (out / "content.txt").write_text(name)
    if stage == "report":
        (out / "summary.json").write_text(json.dumps(SUMMARY))
        (out / "index.html").write_text("<h1>toy</h1>")
        (out / "plots").mkdir(exist_ok=True)
        (out / "plots" / "rates.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    timings = Path(".cache/timings")
    timings.mkdir(parents=True, exist_ok=True)
    (timings / f"{name}.json").write_text(json.dumps({"seconds": behave.get("sleep", 0) + 0.1}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
