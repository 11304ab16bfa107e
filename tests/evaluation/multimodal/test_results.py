from pathlib import Path

import pytest

from dualvla.errors import UserError
from dualvla.evaluation import statistics
from dualvla.evaluation.multimodal import data, results, samples
from dualvla.evaluation.multimodal.command import line
from dualvla.evaluation.multimodal.data import Source
from dualvla.evaluation.multimodal.tasks import BENCHMARKS


def raw(name, value, count):
    benchmark = BENCHMARKS[name]
    return {
        "lmms_eval": "0.7.3",
        "results": {f"{benchmark.metric},none": value},
        "samples": [{"doc_id": i} for i in range(count)],
        "definition_sha256": "d",
        "judge_prompt_sha256": "p" if benchmark.judged else None,
    }


def source(label=data.BENCHMARK):
    return Source(Path("there"), label, "a" * 40, None)


ANSWERS = [{"row": 0, "key": "k", "prompt": "what?", "cut": 0, "limit": 8}]
JUDGE = {"model": "looker", "host": "there"}


def verdict(content="0.5", prompt="q", repeat=0):
    error = None if content else "no score, 4 tries"
    said = {"content": content, "served": "looker-2025", "error": error}
    return {"repeat": repeat, "prompt": prompt, **said}


def part(name, values, count, *, label=data.BENCHMARK, verdicts=()):
    benchmark = BENCHMARKS[name]
    raws = [raw(name, value, count) for value in values]
    judge = JUDGE if benchmark.judged else None
    return results.summarise(
        benchmark, source(label), raws, ANSWERS, judge=judge, verdicts=verdicts
    )


@pytest.mark.parametrize(
    ("name", "value", "score"),
    [("mmmu", 0.5, 50), ("mmvet", 31.5, 31.5), ("mmbench", 70.0, 70), ("docvqa", 0.25, 25)],
)
def test_every_metric_becomes_a_score_of_0_to_100(name, value, score):
    assert results.metric(BENCHMARKS[name], raw(name, value, 10)) == pytest.approx(score)


def test_ocrbench_counts_in_thousandths_whatever_the_rows():
    assert results.metric(BENCHMARKS["ocrbench"], raw("ocrbench", 0.6, 1000)) == pytest.approx(60)
    assert results.metric(BENCHMARKS["ocrbench"], raw("ocrbench", 0.003, 3)) == pytest.approx(100)


def test_a_metric_that_is_missing_is_an_error():
    with pytest.raises(UserError, match="no anls"):
        results.metric(BENCHMARKS["docvqa"], raw("mmmu", 0.5, 10))


def test_all_rows_of_the_pinned_data_set_are_the_benchmark():
    found = part("mmmu", [0.5], 900)
    assert found["score"] == found["harness_score"] == pytest.approx(50)
    low, high = statistics.wilson(450, 900)
    assert found["interval"] == pytest.approx([100 * low, 100 * high])
    assert found["label"] == "benchmark"


@pytest.mark.parametrize(
    ("count", "label", "said"),
    [
        (3, samples.LABEL, "self-made sample"),
        (900, samples.LABEL, "self-made sample"),
        (900, data.COPY, "local copy of unknown revision"),
        (899, data.BENCHMARK, "part of the benchmark"),
    ],
)
def test_anything_else_never_has_the_benchmarks_score(count, label, said):
    found = part("mmmu", [0.5], count, label=label)
    assert found["score"] is None
    assert found["label"] == said
    assert said in line(found)


def test_repeats_are_averaged_and_kept():
    found = part("mmvet", [30.0, 40.0], 218, verdicts=[verdict(), verdict(repeat=1)])
    assert (found["score"], found["repeat_scores"], found["repeats"]) == (35, [30, 40], 2)
    assert found["judge"] == {
        "model": "looker",
        "host": "there",
        "served": ["looker-2025"],
        "prompt_sha256": "p",
    }


def test_a_row_the_judge_left_out_is_an_error_and_no_zero():
    found = part("mmvet", [30.0], 218, verdicts=[verdict(), verdict(None, "other")])
    assert (found["status"], found["score"], found["harness_score"]) == ("error", None, None)
    assert found["error"] == "1 rows not judged: no score, 4 tries"
    assert "error" in line(found)


def test_the_judges_last_word_on_a_row_counts():
    assert results.unjudged([verdict(None), verdict("1.0")]) == []


def test_a_mean_needs_all_benchmarks():
    parts = [part(b.name, [0.5 * 100 / b.scale], b.rows) for b in BENCHMARKS.values()]
    assert results.mean(parts, 8) == {"score": pytest.approx(50), "benchmarks": 8}
    assert results.mean(parts[1:], 8) is None
    assert results.mean([*parts[1:], part("mmmu", [0.5], 3)], 8) is None
