"""Score a model that answers on a loopback address with lmms-eval's own task definitions.

This file is run by the Python of the other environment (`infra/lmms_eval`), never imported here,
and imports nothing of this project: the two share a job file, the address and a token, so that
neither has to suit the other's pins. lmms-eval's definitions stay as they are but for where the
data lies. A model object is handed to `simple_evaluate` rather than registered under a name: no
plug-in has to be installed, and an answer that cannot be had ends the run instead of counting as an
empty one.

Exit code 2 and a last line `error: ...` are meant for the user; any other failure is a defect.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lmms_eval
from datasets.exceptions import DatasetsError
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import handle_non_serializable
from tenacity import RetryError

TOKEN = "DUALVLA_ADAPTER_TOKEN"
TIMEOUT_S = 3600  # a batch on a busy machine


class Refused(Exception):  # noqa: N818 - not a defect
    """Something the user can mend."""


class Served(lmms):
    """A model behind an address; answers come in the order of the questions."""

    def __init__(self, url: str, batch: int) -> None:
        super().__init__()
        self.url, self.batch = url, batch

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answers to lmms-eval's requests, a batch at a time."""
        answers: list[str] = []
        for at in range(0, len(requests), self.batch):
            questions = [self._question(r.args) for r in requests[at : at + self.batch]]
            answers += self._post(questions)
            print(f"answered {len(answers)} of {len(requests)}", flush=True)
        return answers

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """Not served: none of the eight benchmarks asks for it."""
        raise Refused("this task asks for likelihoods, and the model serves answers alone")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not served: none of the eight benchmarks asks for it."""
        raise Refused("this task asks in several rounds, and the model serves single ones")

    def _question(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        prompt, settings, doc_to_visual, row, task, split = arguments
        if settings.get("do_sample"):
            raise Refused(f"{task} asks for sampled answers, and the model answers greedily")
        stops = settings.get("until") or []
        return {
            "task": task,
            "row": row,
            "prompt": prompt,
            "pictures": [_png(p) for p in doc_to_visual(self.task_dict[task][split][row])],
            "max_new_tokens": settings.get("max_new_tokens"),
            "until": [stops] if isinstance(stops, str) else list(stops),
        }

    def _post(self, questions: list[dict[str, Any]]) -> list[str]:
        request = urllib.request.Request(
            f"{self.url}/answer",
            data=json.dumps({"questions": questions}).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {os.environ[TOKEN]}",
            },
        )
        # No proxy: the address is this machine's own.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                answers = json.loads(response.read())["answers"]
        except urllib.error.HTTPError as error:
            raise Refused(json.loads(error.read())["error"]) from error
        except OSError as error:
            raise Refused(f"the model's server hung up: {error}") from error
        if len(answers) != len(questions):
            raise Refused(f"{len(answers)} answers to {len(questions)} questions")
        return [str(answer) for answer in answers]


def _png(picture: Any) -> str:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode()


def definition(manager: TaskManager, task: dict[str, Any]) -> dict[str, Any]:
    """lmms-eval's own settings of a task, compared with what is expected of it."""
    if task["task"] not in manager.all_tasks:
        raise Refused(f"lmms-eval {version('lmms-eval')} has no task {task['task']}")
    config = manager._get_config(task["task"])
    found = {
        "dataset": config["dataset_path"],
        "config": config.get("dataset_name"),
        "split": config["test_split"],
        "metric": next(
            (m["metric"] for m in config["metric_list"] if m["metric"] == task["metric"]), None
        ),
    }
    for name, value in found.items():
        if value != task[name]:
            raise Refused(
                f"lmms-eval {version('lmms-eval')} has {name} {value!r} for {task['task']}, "
                f"{task[name]!r} is expected -> set up the pinned version anew"
            )
    return config


def judge_prompt(config: dict[str, Any], name: str | None) -> str | None:
    """SHA-256 of the judge's prompt, which lies in the module of the task's scoring function."""
    if name is None:
        return None
    text = config["process_results"].__globals__[name]
    return hashlib.sha256(text.encode()).hexdigest()


def sources(folder: Path) -> str:
    """SHA-256 of the files that define a task."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def score(manager: TaskManager, model: Served, job: dict[str, Any], task: dict[str, Any]) -> Any:
    """Results and samples of one task, as lmms-eval gives them."""
    config = definition(manager, task)
    changed = {"task": task["task"], "dataset_path": task["path"], "dataset_kwargs": {}}
    try:
        found = simple_evaluate(
            model=model,
            tasks=[changed],
            task_manager=manager,
            limit=job["limit"],
            bootstrap_iters=0,
            log_samples=True,
            cli_args=argparse.Namespace(
                output_path=job["scratch"], process_with_media=False, verbosity="INFO"
            ),
        )
    except (DatasetsError, FileNotFoundError, KeyError, RetryError, ValueError) as error:
        # Scoring is tried several times; what failed at last is inside.
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        what = " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
        raise Refused(
            f"{task['task']} cannot be scored on {task['path']}: {what} -> its rows need the "
            f"columns of {task['dataset']}, split {task['split']}"
        ) from error
    return {
        "lmms_eval": version("lmms-eval"),
        "definition_sha256": sources(_folder(task)),
        "judge_prompt_sha256": judge_prompt(config, task["judge_prompt"]),
        "results": found["results"][task["task"]],
        "samples": found["samples"][task["task"]],
    }


def _folder(task: dict[str, Any]) -> Path:
    return Path(lmms_eval.__file__).parent / "tasks" / task["folder"]


def _missing(job: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int, Path]]:
    """Tasks and repeats that have no results yet: finished ones are kept."""
    for task in job["tasks"]:
        for repeat in range(task["repeats"]):
            path = Path(job["raw"]) / f"{task['name']}.{repeat}.json"
            if not path.exists():
                yield task, repeat, path


def main() -> None:
    """Score every task of a job file."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = Served(job["url"], job["batch"])
    folders = sorted({str(_folder(task)) for task in job["tasks"]})
    # Only these folders: an index of every task lmms-eval knows would take a minute.
    manager = TaskManager(include_path=folders, include_defaults=False)
    for task, repeat, path in _missing(job):
        print(f"scoring {task['name']}", flush=True)
        # Read anew with each definition: the judge's client is made where that is loaded.
        os.environ["OPENAI_API_URL"] = f"{job['url']}/judge/{repeat}/v1"
        text = json.dumps(
            score(manager, model, job, task), default=handle_non_serializable, ensure_ascii=False
        )
        beside = path.with_suffix(".part")
        beside.write_text(text, encoding="utf-8")
        beside.rename(path)


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        # On a line of its own: a progress bar may have left its last one open.
        print(f"\nerror: {refused}", file=sys.stderr, flush=True)
        sys.exit(2)
