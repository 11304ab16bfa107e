"""What teachers say, computed once and looked up: a step with both then costs like one without.

Teachers are asked before training, about just the samples and noise draws that the run will meet,
and every run with the same teachers, data and seed finds the answers: the arms of an ablation, a
repetition, a run resumed or made longer. That works because the order of samples is a stream, one
permutation an epoch, that depends on neither batch size nor length of the run. A shard holds
`SHARD` consecutive places of it; a short run needs the first shards, a longer one some more.

Latent actions do not depend on noise, so the decoder reads a frame once and only the cheap action
expert runs for each of its draws. Of a reasoning teacher the last hidden states are kept rather
than logits: its own head makes them exact again, and a real vocabulary is a hundred times wider.

Shards are computed `PART` rows at a time whoever asks, so that their bytes do not depend on what
lay there already. Asking on the fly (`distill.cache: false`) differs from that by rounding, because
its batches are others; the parameter is therefore one that a result depends on. In bf16 that
rounding is bf16's. What is given up is disk: a frame costs queries x width + draws x chunk x 14
floats, so that a large policy on a million frames may be better off without. The `KEEP` folders
used last stay under `.cache/teachers`; it is always safe to remove them.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dualvla import files, paths, progress
from dualvla.config import Targets
from dualvla.errors import UserError
from dualvla.models.policy import VlaPolicy
from dualvla.training import loop, teachers
from dualvla.training.losses import Batch
from dualvla.training.samples import Mixer
from dualvla.training.teachers import Lesson, Pair

SHARD = 256  # rows a file; what a killed pass repeats, and the most that is computed for nothing
PART = 64  # rows a forward pass
KEEP = 8  # folders: four runs with two teachers each

NONE = np.empty(0, np.int64)
Answer = tuple[Tensor, Tensor]  # values of some rows one after the other, and how many each has


@dataclass(frozen=True)
class Stream:
    """The order in which `loop.sample` meets `total` samples, `epochs` times."""

    seed: int
    total: int
    epochs: int  # that differ: a frame's noise draws; 1 where there is no noise

    def members(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples and epochs of a shard's places."""
        places = np.arange(shard * SHARD, min((shard + 1) * SHARD, self.total * self.epochs))
        rows = loop.sample(self.seed, shard, SHARD, self.total)[: len(places)]
        return rows, places // self.total

    def places(self, rows: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Places (n,) of samples (n,) in epochs (n,)."""
        within: np.ndarray = self._inverse[epochs, rows]
        return epochs * self.total + within

    @cached_property
    def _inverse(self) -> np.ndarray:
        orders = [loop.sample(self.seed, e, self.total, self.total) for e in range(self.epochs)]
        return np.argsort(np.stack(orders), axis=1)


@dataclass(frozen=True)
class Series:
    """One kind of answer along a stream, in shards."""

    folder: Path  # named by the teacher's fingerprint
    name: str
    stream: Stream
    count: int  # places that the run needs
    _open: dict[int, tuple[Tensor, list[int]]] = field(default_factory=dict)

    def path(self, shard: int) -> Path:
        """File of a shard."""
        return self.folder / f"{self.name}-{shard:06d}.safetensors"

    @property
    def shards(self) -> range:
        """Shards that the run needs."""
        return range(-(-self.count // SHARD))

    def missing(self, shard: int) -> bool:
        """Whether a shard is not there, or is a stream's end that was shorter than it is now."""
        if not self.path(shard).exists():
            return True
        with _reading(self.path(shard), self.folder.name) as file:
            held = int(file.get_slice("starts").get_shape()[0]) - 1
        return held < len(self.stream.members(shard)[0])

    def write(self, shard: int, compute: Callable[[np.ndarray, np.ndarray], Answer]) -> int:
        """Compute a shard from samples and epochs, `PART` at a time; its size in bytes."""
        rows, epochs = self.stream.members(shard)
        parts = [slice(at, at + PART) for at in range(0, len(rows), PART)]
        values, lengths = zip(*(compute(rows[part], epochs[part]) for part in parts), strict=True)
        ends = torch.cat(lengths).cpu().cumsum(0)
        tensors = {
            "values": torch.cat(values).float().cpu().contiguous(),
            "starts": torch.cat([ends.new_zeros(1), ends]),
        }
        with files.replacing(self.path(shard)) as beside:
            save_file(tensors, beside, metadata={"teacher": self.folder.name})
        return tensors["values"].nbytes

    def open(self, shard: int) -> tuple[Tensor, list[int]]:
        """Memory-mapped values of a shard, and where each row's start."""
        if shard not in self._open:
            with _reading(self.path(shard), self.folder.name) as file:
                self._open[shard] = file.get_tensor("values"), file.get_tensor("starts").tolist()
        return self._open[shard]

    def read(self, rows: np.ndarray, epochs: np.ndarray) -> Tensor:
        """Values of samples (n,) in epochs (n,), one after the other."""
        found = []
        for place in self.stream.places(rows, epochs).tolist():
            values, starts = self.open(place // SHARD)
            at = place % SHARD
            found.append(values[starts[at] : starts[at + 1]])
        return torch.cat(found)


@dataclass(frozen=True)
class Lessons:
    """Both teachers' answers, looked up by a batch's samples and draws."""

    series: Mapping[str, Series]  # by <split>-<kind>
    head: torch.nn.Module | None  # of the reasoning teacher

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Lesson:
        """What the teachers say about a batch of a run that `prepare` knew of."""
        index, draws = batch.index.cpu().numpy(), batch.draw.cpu().numpy()
        robots, asked = index[: batch.robots], index[batch.robots :]

        def look(kind: str, rows: np.ndarray, epochs: np.ndarray) -> Tensor | None:
            series = self.series.get(f"{batch.split}-{kind}")
            if series is None:
                return None
            found = series.read(rows, epochs) if len(rows) else series.open(0)[0][:0]
            return found.to(batch.encoded.device)

        hidden = look("hidden", asked, np.zeros_like(asked))
        return Lesson(
            latents=look("latent", robots, np.zeros_like(robots)),
            velocity=look("velocity", robots, draws),
            chunk=look("chunk", robots, draws),
            logits=None if hidden is None or self.head is None else self.head(hidden).float(),
        )


def prepare(
    pair: Pair, targets: Targets, marks: Mapping[str, str], runs: Mapping[str, tuple[Mixer, int]]
) -> Lessons:
    """Ask the teachers whatever a run needs and is not there yet.

    Args:
        pair: the teachers, in evaluation mode.
        targets: what is asked of the action teacher.
        marks: fingerprints of the `action` and of the `reasoning` teacher, each with all that its
            answers depend on; 16 hex digits.
        runs: by split, its batches and how many steps of them there will be.

    Raises:
        UserError: answers of another teacher, a damaged shard, or too little space.
    """
    series: dict[str, Series] = {}
    ask: dict[str, Callable[[np.ndarray, np.ndarray], Answer]] = {}
    for split, (mixer, steps) in runs.items():
        robots, asked = mixer.shares
        if pair.action is not None and mixer.robot is not None and robots * steps:
            home, total = paths.TEACHERS / marks["action"], len(mixer.robot.prompts)
            once = Stream(mixer.seed, total, 1)
            drawn = Stream(mixer.seed, total, mixer.draws or -(-robots * steps // total))
            kinds = [("latent", once), ("velocity", drawn), ("chunk", drawn)]
            # Latent actions are wanted by the other two in any case.
            for kind, stream in [k for k in kinds if k[1] is once or getattr(targets, k[0])]:
                count = min(robots * steps, total * stream.epochs)
                series[f"{split}-{kind}"] = Series(home, f"{split}-{kind}", stream, count)
            latent = series[f"{split}-latent"]
            ask[latent.name] = partial(_intent, pair.action, mixer)
            for kind in ("velocity", "chunk"):
                ask[f"{split}-{kind}"] = partial(_act, pair.action, mixer, latent=latent, kind=kind)
        if pair.reasoning is not None and mixer.questions is not None and asked * steps:
            home, total = paths.TEACHERS / marks["reasoning"], len(mixer.questions.prompts)
            stream, name = Stream(mixer.seed + 1, total, 1), f"{split}-hidden"
            series[name] = Series(home, name, stream, min(asked * steps, total))
            ask[name] = partial(_thought, pair.reasoning, mixer)
    if not series:
        return Lessons({}, None)
    with _alone():
        _keep([one.folder for one in series.values()])
        jobs = [(one, n) for one in series.values() for n in one.shards if one.missing(n)]
        sizes: dict[str, int] = {}
        for one, shard in progress.track(jobs, len(jobs), "teachers") if jobs else ():
            size = one.write(shard, ask[one.name])
            if one.name not in sizes:
                sizes[one.name] = size
                left = sum(other is one for other, _ in jobs)
                files.require_space(one.folder, size * left / 2**30)
        for one in series.values():
            for shard in one.shards:
                one.open(shard)  # from now on the files may be removed
    if not targets.latent:
        series = {name: one for name, one in series.items() if not name.endswith("latent")}
    return Lessons(series, None if pair.reasoning is None else pair.reasoning.vlm.lm_head)


def require_own(mark: str) -> None:
    """Raise a `UserError` if a shard in a teacher's folder is of another teacher, or damaged."""
    for path in sorted((paths.TEACHERS / mark).glob("*.safetensors")):
        with _reading(path, mark):
            pass


@torch.no_grad()
def _intent(teacher: VlaPolicy, mixer: Mixer, rows: np.ndarray, epochs: np.ndarray) -> Answer:
    batch = mixer.rows(rows, epochs, NONE)
    with loop.autocast():
        return teachers.intent(teacher, batch), _one_each(rows)


@torch.no_grad()
def _act(
    teacher: VlaPolicy,
    mixer: Mixer,
    rows: np.ndarray,
    epochs: np.ndarray,
    *,
    latent: Series,
    kind: str,
) -> Answer:
    batch = mixer.rows(rows, epochs, NONE)
    latents = latent.read(rows, np.zeros_like(rows))
    with loop.autocast():
        said = teachers.act(teacher, latents, batch, Targets.model_validate({kind: 1}))
    return said[kind], _one_each(rows)


@torch.no_grad()
def _thought(teacher: VlaPolicy, mixer: Mixer, rows: np.ndarray, _: np.ndarray) -> Answer:
    with loop.autocast():
        return teachers.thought(teacher, mixer.rows(NONE, NONE, rows))


def _one_each(rows: np.ndarray) -> Tensor:
    return torch.ones(len(rows), dtype=torch.long)


@contextlib.contextmanager
def _reading(path: Path, mark: str) -> Iterator[Any]:
    """An open shard of the teacher with that fingerprint."""
    fix = f"remove the folder {path.parent}: it is computed anew"
    try:
        with safe_open(path, "pt") as file:
            maker = (file.metadata() or {}).get("teacher")
            if maker != mark:
                what = f"these answers are another teacher's, {maker} instead of {mark}"
                raise UserError(what, where=str(path), fix=fix)
            yield file
    except SafetensorError as error:
        raise UserError(f"damaged shard: {error}", where=str(path), fix=fix) from error


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One run asks at a time; the next one finds the answers."""
    paths.TEACHERS.mkdir(parents=True, exist_ok=True)
    with (paths.TEACHERS / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.log("teachers: another run is asking them, waiting")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _keep(folders: list[Path]) -> None:
    """Mark folders as used now, and remove all but the last used `KEEP`."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
        os.utime(folder)
        for part in folder.glob(".*.part"):  # of a killed process
            part.unlink()
    used = sorted(
        (f for f in paths.TEACHERS.iterdir() if f.is_dir()), key=lambda f: f.stat().st_mtime_ns
    )
    for folder in used[:-KEEP]:
        shutil.rmtree(folder, ignore_errors=True)
