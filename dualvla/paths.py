"""Where every artifact lies, relative to the workspace (the folder of dvc.yaml).

dvc.yaml declares the same paths; a test compares the two.
"""

from pathlib import Path

DEMONSTRATIONS = Path("data/demonstrations")  # LeRobot v3.0
ANNOTATED = Path("data/annotated")  # LeRobot v3.0 with language columns
MULTIMODAL = Path("data/multimodal")  # LLaVA JSON, image shards, scene labels
MIXTURE = Path("data/mixture")  # index of training samples
PRUNED = Path("data/pruned")  # verdicts beside the data set
LABELS = Path("labels/boundaries.json")  # marked by people: a source, in git
INCOMING = Path("incoming/manifest.json")  # shards to train on: a source, in git
MODELS = Path("models")  # one Hugging Face folder a model
EVALUATION = Path("results/evaluate")  # one folder a model
BENCHMARK = Path("results/benchmark")
SCORE = Path("results/score")
DIAGNOSIS = Path("results/diagnose")
REPORT = Path("report")
ABLATION = Path("ablation")  # models/, results/ and report/ of its own, see runs.py
CHECKPOINTS = Path(".cache/checkpoints")  # training state, outside DVC
TEACHERS = Path(".cache/teachers")  # what teachers said, outside DVC
TIMINGS = Path(".cache/timings")  # what each stage cost last time, outside DVC
DECISIONS = Path(".cache/decisions")  # how long each model's decisions took, outside DVC
EVALUATING = Path(".cache/evaluating")  # episodes of evaluations that are not done, outside DVC


SHARED = ("base_vlm", "specialist")  # models that the ablation takes from the main graph


def model(name: str, run: str | None = None) -> Path:
    """Folder of a model: base_vlm, specialist, generalist or an arm; `run` is the ablation's."""
    return MODELS / name if run is None or name in SHARED else ABLATION / MODELS / run / name


def results(kind: Path, name: str, run: str | None = None) -> Path:
    """Folder of a model's results of a kind such as `EVALUATION`; `run` is the ablation's."""
    return kind / name if run is None else ABLATION / kind / run / name


def label(name: str, run: str | None = None) -> str:
    """Name of a model apart from the same model of other runs: in logs, gates, resume points."""
    return name if run is None else f"{name}-{run}"
