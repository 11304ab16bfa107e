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
MODELS = Path("models")  # one Hugging Face folder a model
EVALUATION = Path("results/evaluate")  # one folder a model
BENCHMARK = Path("results/benchmark")
SCORE = Path("results/score")
DIAGNOSIS = Path("results/diagnose")
REPORT = Path("report")
CHECKPOINTS = Path(".cache/checkpoints")  # training state, outside DVC
TEACHERS = Path(".cache/teachers")  # what teachers said, outside DVC
TIMINGS = Path(".cache/timings")  # what each stage cost last time, outside DVC


def model(name: str) -> Path:
    """Folder of a model: base_vlm, specialist, generalist or an arm."""
    return MODELS / name
