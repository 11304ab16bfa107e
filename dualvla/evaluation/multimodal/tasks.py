"""The eight multimodal benchmarks as data.

Prompts, answer parsing and scores are lmms-eval's own; what is written here is which of its tasks
counts as which benchmark, and how its metric becomes a score of 0 to 100 as published. The adapter
compares data set, split and metric with lmms-eval's definition before anything is asked, so that a
newer lmms-eval cannot change them unseen. MMBench is scored by its rule for finding the chosen
letter and not by a judge model: deterministic, and a little below what a judge reads into answers
that name no letter.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from dualvla.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: short name, for the command line and files.
        title: name as published.
        task: of lmms-eval.
        folder: of lmms-eval's task definitions.
        dataset: repository on the Hugging Face hub.
        config: of the data set; None where it has one alone.
        split: of the data set.
        rows: of that split.
        metric: of lmms-eval.
        scale: metric to a score of 0 to 100.
        source: where it was published.
        per: the metric is a sum divided by this number, whatever the number of rows.
        judge_prompt: name in the task's module of the judge's prompt; None without a judge model.
    """

    name: str
    title: str
    task: str
    folder: str
    dataset: str
    config: str | None
    split: str
    rows: int
    metric: str
    scale: float
    source: str
    per: int | None = None
    judge_prompt: str | None = None

    @property
    def judged(self) -> bool:
        """Whether a judge model gives the scores."""
        return self.judge_prompt is not None


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="mmmu",
            title="MMMU",
            task="mmmu_val",
            folder="mmmu",
            dataset="lmms-lab-encoder/MMMU",
            config=None,
            split="validation",
            rows=900,
            metric="mmmu_acc",
            scale=100,
            source="arXiv 2311.16502",
        ),
        Benchmark(
            name="mmvet",
            title="MM-Vet",
            task="mmvet",
            folder="mmvet",
            dataset="lmms-lab-encoder/MMVet",
            config=None,
            split="test",
            rows=218,
            metric="gpt_eval_score",
            scale=1,
            source="arXiv 2308.02490",
            judge_prompt="MM_VET_PROMPT",
        ),
        Benchmark(
            name="mmstar",
            title="MMStar",
            task="mmstar",
            folder="mmstar",
            dataset="Lin-Chen/MMStar",
            config=None,
            split="val",
            rows=1500,
            metric="average",
            scale=100,
            source="arXiv 2403.20330",
        ),
        Benchmark(
            name="ocrbench",
            title="OCRBench",
            task="ocrbench",
            folder="ocrbench",
            dataset="echo840/OCRBench",
            config=None,
            split="test",
            rows=1000,
            metric="ocrbench_accuracy",
            scale=100,
            source="arXiv 2305.07895",
            per=1000,
        ),
        Benchmark(
            name="mmbench",
            title="MMBench",
            task="mmbench_en_dev_static",
            folder="mmbench",
            dataset="lmms-lab-encoder/MMBench",
            config="en",
            split="dev",
            rows=4329,
            metric="gpt_eval_score",
            scale=1,
            source="arXiv 2307.06281",
        ),
        Benchmark(
            name="textvqa",
            title="TextVQA",
            task="textvqa_val",
            folder="textvqa",
            dataset="lmms-lab-encoder/textvqa",
            config=None,
            split="validation",
            rows=5000,
            metric="exact_match",
            scale=100,
            source="arXiv 1904.08920",
        ),
        Benchmark(
            name="infovqa",
            title="InfoVQA",
            task="infovqa_val",
            folder="infovqa",
            dataset="lmms-lab-encoder/DocVQA",
            config="InfographicVQA",
            split="validation",
            rows=2801,
            metric="anls",
            scale=100,
            source="arXiv 2104.12756",
        ),
        Benchmark(
            name="docvqa",
            title="DocVQA",
            task="docvqa_val",
            folder="docvqa",
            dataset="lmms-lab-encoder/DocVQA",
            config="DocVQA",
            split="validation",
            rows=5349,
            metric="anls",
            scale=100,
            source="arXiv 2007.00398",
        ),
    )
}


def select(names: Sequence[str]) -> list[Benchmark]:
    """Benchmarks of these names, each once, in the order of `BENCHMARKS`; all for no names.

    Raises:
        UserError: an unknown name.
    """
    for name in names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, BENCHMARKS, n=1)
            fix = f"did you mean {near[0]}?" if near else f"choose from {', '.join(BENCHMARKS)}"
            raise UserError(f"no multimodal benchmark {name!r}", where="--tasks", fix=fix)
    return [b for b in BENCHMARKS.values() if not names or b.name in names]
