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
MODELS = ("dualvla", "base_ft")
SUMMARY = {
    "schema": 1,
    "profile": "toy",
    "seed": 0,
    "models": list(MODELS),
    "tasks": ["carrot"],
    "assets": "generated",
    "success_mode": "last_step",
    "evaluation_seed": 0,
    "verdict": {"text": "no difference"},
    "notes": [],
    "lineage": {"sources": [], "stages": []},
    "success": [
        {
            "model": model,
            "starts": "official",
            "task": "all",
            "k": 1,
            "n": 2,
            "rate": 0.5,
            "low": 0.1,
            "high": 0.9,
            "mode": "last_step",
            "assets": "generated",
            "source": f"results/evaluate/{model}",
        }
        for model in MODELS
    ],
    "questions": [],
    "vla_score": [],
    "timings": [],
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


def write_results(root: Path, model: str, trials: int = 2) -> None:
    """What evaluation, benchmark, score and diagnosis of a model would leave."""
    import pyarrow
    from pyarrow import parquet

    def write(name: str, columns: dict[str, list]) -> None:
        path = root / name.format(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(columns), path)

    starts, won = [f"carrot-{i}" for i in range(trials)], [i % 2 == 0 for i in range(trials)]
    key = {"starts": ["official"] * trials, "task": ["carrot"] * trials, "start_id": starts}
    none = pyarrow.nulls(trials, pyarrow.string())
    ran = {"seed": list(range(trials)), "status": ["ok"] * trials, "error": none}
    write("evaluate/{}/results.parquet", {**key, **ran, "last_step": won})
    twice = {name: values * 2 for name, values in key.items()}
    places = {f"state.{axis}": [0.0] * trials + [0.3] * trials for axis in "xyz"}
    write("evaluate/{}/steps.parquet", {**twice, **places})
    asked = {"id": ["1", "2"], "question": ["a", "b"], "wanted": ["c", "d"], "right": [True, False]}
    write("benchmark/{}/answers.parquet", asked)
    write("score/{}/scores.parquet", {**key, "score": [0.5 * one for one in won]})
    ran = {"assets": "generated", "success_mode": "last_step", "seed": 0, "execute": 4}
    scoring = {"judge": "rules", "scale": "reasoning", "success_mode": "last_step"}
    for kind, data in (("evaluate", ran), ("score", scoring), ("diagnose", {})):
        folder = root / kind / model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps(data))


def main() -> int:
    stage = sys.argv[1]
    name = f"{stage}@{sys.argv[3]}" if "--arm" in sys.argv else stage
    behave = json.loads(os.environ.get("TOY", "{}")).get(name, {})
    print(f"{name} says hello", flush=True)
    time.sleep(behave.get("sleep", 0))
    while "until" in behave and not Path(behave["until"]).exists():
        time.sleep(0.1)
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
    if stage == "distill":
        (out / "environment.json").write_text('{"python": "toy"}')
        write_results(Path("results"), sys.argv[3])
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
