"""Run lmms-eval as a process of its own against a checkpoint that this process serves.

Everything is kept in one folder: answers as they come, the judge's words, lmms-eval's samples of
each finished benchmark, its log, and at last the summary. The same command goes on where a stopped
one was; another checkpoint, part or batch size needs another folder, because answers of two runs
would mix.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dualvla import files, progress
from dualvla.errors import UserError
from dualvla.evaluation.judging import endpoint as endpoints
from dualvla.evaluation.judging.cache import Cache
from dualvla.evaluation.multimodal import data, environment, results
from dualvla.evaluation.multimodal.data import Source
from dualvla.evaluation.multimodal.tasks import BENCHMARKS, Benchmark

if TYPE_CHECKING:  # torch takes a second
    from dualvla.evaluation.multimodal.answering import Answer, Question

Answerer: TypeAlias = "Callable[[Sequence[Question]], list[Answer]]"
ADAPTER = Path(__file__).with_name("adapter.py")
TOKEN = "DUALVLA_ADAPTER_TOKEN"
SUMMARY, RUN, LOG = "summary.json", "run.json", "lmms-eval.log"
SCHEMA = 1


@dataclass(frozen=True)
class Request:
    """What to score.

    Attributes:
        checkpoint: folder of a policy.
        benchmarks: which.
        data: `hub`, `self-made` or a folder.
        out: folder of results.
        limit: first rows of each alone; None for all.
        repeats: judgements a row, where a judge gives the scores.
        batch: questions answered at once.
    """

    checkpoint: Path
    benchmarks: Sequence[Benchmark]
    data: str
    out: Path
    limit: int | None = None
    repeats: int = 1
    batch: int = 8


def run(request: Request) -> dict[str, Any]:
    """Score a checkpoint; writes and returns the summary.

    Raises:
        UserError: the environment, a data set, the judge or the checkpoint is missing or broken, or
            the folder holds another run's results. What was done by then is kept.
    """
    python = environment.python()
    judged = any(b.judged for b in request.benchmarks)
    endpoint = endpoints.from_environment() if judged else None
    out = request.out.absolute()
    if not (request.checkpoint / "config.json").is_file():
        fix = "name the folder of a trained policy, such as models/dualvla"
        raise UserError("no checkpoint", where=str(request.checkpoint), fix=fix)
    sha256 = files.sha256(request.checkpoint)
    about = {
        "checkpoint_sha256": sha256,
        "limit": request.limit,
        "batch": request.batch,
    }
    _claim(out, about)
    sources = data.resolve(request.data, request.benchmarks, out / "data")
    judge = {"model": endpoint.model, "host": endpoint.host} if endpoint else None
    _record(out, about, {name: s.to_json() for name, s in sources.items()}, judge)
    _score(request, out, python, endpoint, sources)
    summary = _summary(request, out, sha256, sources, judge)
    files.write_json(out / SUMMARY, summary)
    return summary


def _claim(out: Path, about: Mapping[str, Any]) -> None:
    """Refuse a folder of something else; make it."""
    found = files.read_json(out / RUN) if (out / RUN).is_file() else None
    fix = "choose another --out, or move it away"
    if found is None and out.is_dir() and any(out.iterdir()):
        raise UserError("it is there and holds no run of lmms-eval", where=str(out), fix=fix)
    if found is not None:
        other = [name for name, value in about.items() if found.get(name) != value]
        if other:
            raise UserError(f"it holds a run with another {other[0]}", where=str(out), fix=fix)
    else:
        files.write_json(out / RUN, dict(about))
    (out / "raw").mkdir(parents=True, exist_ok=True)


def _record(
    out: Path,
    about: Mapping[str, Any],
    sources: Mapping[str, Any],
    judge: Mapping[str, Any] | None,
) -> None:
    """Write what this run is; refuse to go on with other data or another judge."""
    found = files.read_json(out / RUN)
    known = found.get("data", {})
    fix = "choose another --out, or move it away"
    for name, source in sources.items():
        if name in known and known[name] != source:
            raise UserError(f"it holds a run on another {name}", where=str(out), fix=fix)
    if judge and found.get("judge") and found["judge"] != judge:
        raise UserError("it holds a run with another judge", where=str(out), fix=fix)
    kept = {"data": {**known, **sources}, "judge": judge or found.get("judge")}
    files.write_json(out / RUN, {**about, **kept})


def _score(
    request: Request,
    out: Path,
    python: Path,
    endpoint: endpoints.Endpoint | None,
    sources: Mapping[str, Source],
) -> None:
    """Have the adapter score what has no results yet."""
    wanted = [_raw(out, b, repeat) for b in request.benchmarks for repeat in _repeats(request, b)]
    if all(path.is_file() for path in wanted):
        return
    from dualvla.evaluation.multimodal import server

    lent = server.Lent(
        answer=answerer(request.checkpoint),
        ledger=out / "answers.jsonl",
        verdicts=out / "judge.jsonl",
        endpoint=endpoint,
        cache=Cache(out / "judge"),
    )
    with server.serving(lent) as url:
        job = _job(request, out, url, sources)
        files.write_json(out / "job.json", job)
        command = [str(python), "-P", str(ADAPTER), str(out / "job.json")]
        with _child(command, out, _environment(lent.token, endpoint, request, out)) as process:
            shown = 0
            while process.poll() is None and lent.failure is None:
                time.sleep(0.2)
                shown = _show(out / LOG, shown)
    if lent.failure is not None:
        raise lent.failure
    if process.returncode:
        raise _why(out / LOG, process.returncode)


def answerer(checkpoint: Path) -> Answerer:
    """What answers a batch of questions with a checkpoint, on a GPU where there is one."""
    import torch

    from dualvla.evaluation.multimodal import answering
    from dualvla.models import policy

    model = policy.load(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    return lambda questions: answering.answer(model, questions)


def _repeats(request: Request, benchmark: Benchmark) -> range:
    return range(request.repeats if benchmark.judged else 1)


def _raw(out: Path, benchmark: Benchmark, repeat: int) -> Path:
    return out / "raw" / f"{benchmark.name}.{repeat}.json"


def _job(request: Request, out: Path, url: str, sources: Mapping[str, Source]) -> dict[str, Any]:
    tasks = [
        {
            "name": b.name,
            "task": b.task,
            "folder": b.folder,
            "dataset": b.dataset,
            "config": b.config,
            "split": b.split,
            "metric": b.metric,
            "judge_prompt": b.judge_prompt,
            "path": str(sources[b.dataset].path),
            "repeats": len(_repeats(request, b)),
        }
        for b in request.benchmarks
    ]
    return {
        "url": url,
        "batch": request.batch,
        "limit": request.limit,
        "raw": str(out / "raw"),
        "scratch": str(out / "scratch"),
        "tasks": tasks,
    }


def _environment(
    token: str, endpoint: endpoints.Endpoint | None, request: Request, out: Path
) -> dict[str, str]:
    """Of the child: nothing of the judge's but its name, no network, no other proxy."""
    hidden = {endpoints.URL, endpoints.KEY, "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    own = {
        TOKEN: token,
        "OPENAI_API_KEY": token,
        "API_TYPE": "openai",
        "MODEL_VERSION": endpoint.model if endpoint else "none",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "false",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONNOUSERSITE": "1",
    }
    if request.data != data.HUB:
        own["HF_DATASETS_CACHE"] = str(out / "scratch/datasets")
    return kept | own


@contextlib.contextmanager
def _child(
    command: list[str], out: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, none of which is left behind."""
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    with (out / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _show(log: Path, at: int) -> int:
    """Print what the adapter says of its progress behind byte `at`; returns where it ends."""
    with log.open("rb") as stream:
        stream.seek(at)
        whole, found, _ = stream.read().rpartition(b"\n")
    for line in whole.decode("utf-8", "replace").splitlines():
        if line.startswith(("scoring ", "answered ")):
            progress.log(line)
    return at + len(whole) + len(found)


def _why(log: Path, code: int) -> UserError:
    """The error behind a failed adapter: its own, or that of a broken environment."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == 2 and said:
        what, _, fix = said[-1].partition(" -> ")
        return UserError(what, where="lmms-eval", fix=fix or f"see {log}")
    if any(line.startswith(("ModuleNotFoundError", "ImportError")) for line in lines[-3:]):
        return environment.broken()
    last = next((line for line in reversed(lines) if line.strip()), "nothing said")
    return UserError(f"it ended with {code}: {last[:200]}", where="lmms-eval", fix=f"see {log}")


def _summary(
    request: Request,
    out: Path,
    sha256: str,
    sources: Mapping[str, Source],
    judge: Mapping[str, Any] | None,
) -> dict[str, Any]:
    from dualvla.evaluation.multimodal import server

    answers = server.read_ledger(out / "answers.jsonl")
    verdicts = server.read_ledger(out / "judge.jsonl")
    parts, version = [], ""
    for benchmark in request.benchmarks:
        paths = [_raw(out, benchmark, repeat) for repeat in _repeats(request, benchmark)]
        raws = [files.read_json(path) for path in paths]
        version = raws[0]["lmms_eval"]
        part = results.summarise(
            benchmark,
            sources[benchmark.dataset],
            raws,
            [row for row in answers if row["task"] == benchmark.task],
            judge=judge if benchmark.judged else None,
            verdicts=verdicts if benchmark.judged else [],
        )
        parts.append(part)
        for path in paths if part["status"] != "ok" else []:
            path.unlink()  # the next run asks the judge again, for the rows it left out alone
    return {
        "schema": SCHEMA,
        "name": "multimodal benchmarks",
        "model": request.checkpoint.name,
        "checkpoint_sha256": sha256,
        "lmms_eval": version,
        "generation": "greedy; pictures of a question side by side on one canvas",
        "limit": request.limit,
        "batch": request.batch,
        "benchmarks": parts,
        "mean": results.mean(parts, len(BENCHMARKS)),
    }
