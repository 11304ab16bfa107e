"""Where a benchmark's rows come from, and what results made of them may be called.

Each data set is a folder OWNER/NAME, from the hub at a pinned revision, from a folder of copies, or
made here. Only the first is the benchmark: of a copy nobody knows the revision, so its content is
hashed and its results are labelled as a copy's. A revision is pinned when the hub is first reached
and stays in `revisions.json`, which belongs in version control.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation.multimodal import samples
from dualvla.evaluation.multimodal.tasks import BENCHMARKS, Benchmark

HUB, SELF_MADE = "hub", "self-made"
BENCHMARK, COPY = "benchmark", "local copy of unknown revision"
PINS = Path(__file__).with_name("revisions.json")


@dataclass(frozen=True)
class Source:
    """A data set that is at hand."""

    path: Path
    label: str  # what results made of it may be called
    revision: str | None  # of the hub
    sha256: str | None  # of a folder that has no revision

    def to_json(self) -> dict[str, Any]:
        """All but where it lies."""
        return {"label": self.label, "revision": self.revision, "sha256": self.sha256}


def resolve(
    data: str, benchmarks: Sequence[Benchmark], made: Path, pins: Path = PINS
) -> dict[str, Source]:
    """The data sets of some benchmarks, by repository; downloads and writes what is missing.

    Args:
        data: `hub`, `self-made` or a folder of OWNER/NAME folders.
        benchmarks: which to look for.
        made: folder for what is made here.
        pins: file of pinned revisions.

    Raises:
        UserError: a data set is missing, or the hub cannot be reached.
    """
    names = sorted({b.dataset for b in benchmarks})
    if data == HUB:
        return {name: _from_hub(name, pins) for name in names}
    folder = made if data == SELF_MADE else Path(data)
    if data == SELF_MADE:
        samples.write(folder, list(BENCHMARKS.values()))
    return {name: _from_folder(folder, name) for name in names}


def _from_folder(folder: Path, name: str) -> Source:
    path = folder / name
    if not any(path.rglob("*.parquet")):
        raise UserError(f"no data set {name}", where=str(path), fix=_advice(name, None, folder))
    label = samples.LABEL if samples.self_made(path) else COPY
    return Source(path.resolve(), label, None, files.sha256(path))


def _from_hub(name: str, pins: Path) -> Source:
    from huggingface_hub import HfApi, snapshot_download

    pinned: dict[str, str] = files.read_json(pins)
    revision = pinned.get(name)
    try:
        if revision is None:
            revision = HfApi().dataset_info(name, timeout=60).sha
        path = snapshot_download(name, repo_type="dataset", revision=revision)
    except Exception as error:  # the hub's client has many, and httpx's pass through it
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        fix = _advice(name, revision, Path("DIR"))
        raise UserError(f"no data set {name}: {reason}", where="the hub", fix=fix) from error
    assert revision is not None
    if name not in pinned:
        files.write_json(pins, {**pinned, name: revision})
    return Source(Path(path), BENCHMARK, revision, None)


def _advice(name: str, revision: str | None, folder: Path) -> str:
    at = f" --revision {revision}" if revision else ""
    return (
        f"where the hub is reached: `hf download --repo-type dataset {name}{at} "
        f"--local-dir {folder}/{name}`, then --data {folder}; or --data self-made, which tries the "
        "harness on rows of the project's own"
    )
