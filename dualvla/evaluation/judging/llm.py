"""The llm judge: a large model that reads the rubric and looks at the pictures (DualVLA).

A case is asked about `repeats` times, each answer with a seed of its own; the rating is the median,
which stays a whole number because the count is odd, and the spread is reported. Whatever cannot be
rated, for want of pictures or of an answer, becomes a verdict with its reason. It is never a zero.

Answers depend on a model that its vendor may change, so this judge is reproducible from its cache
only: the same cases and settings give the same bytes for as long as the cache is kept.
"""

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from dualvla import progress
from dualvla.evaluation.judges import Ratings
from dualvla.evaluation.judging import answers, frames, prompts, rubric
from dualvla.evaluation.judging.cache import Cache
from dualvla.evaluation.judging.cases import Case, Verdict
from dualvla.evaluation.judging.endpoint import Endpoint, UnansweredError, Usage
from dualvla.evaluation.judging.knowledge import Knowledge

IN_FLIGHT = 4  # questions asked at the same time
DIMENSIONS = ("reasoning", "action", "intention", "alignment")


@dataclass(frozen=True, eq=False)
class LlmJudge:
    """A judge that asks an endpoint."""

    endpoint: Endpoint
    cache: Cache = field(default_factory=Cache)
    frames: int = 8  # pictures of a case
    repeats: int = 1  # answers a case, odd
    knowledge: Knowledge | None = None
    examples: int = 0  # shown with each case

    def __call__(self, cases: Sequence[Case], speaks: bool) -> list[Verdict]:
        """Rate cases, in their order.

        Raises:
            UserError: the endpoint refuses every question alike.
        """
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            pending = [pool.submit(self._rate, case, speaks) for case in cases]
            try:
                results = (future.result() for future in pending)
                return list(progress.track(results, len(cases), "judge"))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def about(self, verdicts: Sequence[Verdict]) -> dict[str, Any]:
        """What a summary says of the judge and of what its answers took, cached or not."""
        given = [answer for verdict in verdicts for answer in verdict.answers]
        usage = Usage()
        for answer in given:
            usage = usage.plus(Usage(*(answer[name] for name in Usage._fields)))
        return {
            "model": self.endpoint.model,
            "served": sorted({answer["served"] for answer in given if answer["served"]}),
            "host": self.endpoint.host,
            "rubric": rubric.current().to_json(),
            "frames": self.frames,
            "repeats": self.repeats,
            "examples": self.examples if self.knowledge else 0,
            "knowledge": self.knowledge.to_json() if self.knowledge else None,
            "requests": usage.requests,
            "tokens": {"read": usage.read, "written": usage.written},
            "cost": self.endpoint.cost(usage),
            "spread": _spread(verdicts),
        }

    def _rate(self, case: Case, speaks: bool) -> Verdict:
        kind = answers.Speaking if speaks else answers.Acting
        try:
            request = self._request(case, speaks, kind)
        except frames.UnreadableError as error:
            return Verdict(None, str(error))
        given: list[dict[str, Any]] = []
        for repeat in range(self.repeats):
            question = {**request, "seed": repeat}
            try:
                given.append({"repeat": repeat, **self._ask(question, kind)})
            except UnansweredError as error:
                spent = {"repeat": repeat, "served": None, "content": None}
                given.append(spent | error.spent._asdict())
                return Verdict(None, str(error), tuple(given))
        found = [kind.model_validate_json(answer["content"]).ratings() for answer in given]
        return Verdict(_median(found), answers=tuple(given))

    def _request(self, case: Case, speaks: bool, kind: type[answers.Acting]) -> dict[str, Any]:
        if case.film is None:
            raise frames.UnreadableError("no video")
        examples = []
        if self.knowledge is not None:
            # The nearest comes last, next to the question.
            rows = reversed(self.knowledge.nearest(case, speaks, self.examples))
            examples = [self.knowledge.example(row, speaks) for row in rows]
        steps = frames.spread(len(case.clip.environment), self.frames)
        pictures = [frames.jpeg(picture) for picture in case.film(steps)]
        shown = prompts.shown(prompts.describe(case, speaks), steps, pictures)
        return dict(prompts.request(kind, examples, shown))

    def _ask(self, question: dict[str, Any], kind: type[answers.Acting]) -> dict[str, Any]:
        """An answer from the cache or the endpoint: content, served, requests, read, written."""
        key = {"url": self.endpoint.url, "model": self.endpoint.model, **question}
        check = _check(kind)
        found = self.cache.get(key)
        if found is not None and found.keys() == {"content", "served", *Usage._fields}:
            return found
        reply = self.endpoint.ask(question, check)
        answer = {"content": reply.content, "served": reply.served, **reply.usage._asdict()}
        self.cache.put(key, answer)
        return answer


def _check(kind: type[answers.Acting]) -> Callable[[str], object]:
    def check(content: str) -> object:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            what = f"{place}: {first['msg']}" if place else "no JSON"
            raise ValueError(f"not an answer: {what}") from error

    return check


def _median(found: Sequence[Ratings]) -> Ratings:
    """Each dimension's median, and the failures that more than half of the answers name."""
    middle: dict[str, Any] = {}
    for name in DIMENSIONS:
        values = [getattr(ratings, name) for ratings in found]
        middle[name] = None if values[0] is None else statistics.median_low(values)
    named = {failure for ratings in found for failure in ratings.failures}
    often = (n for n in sorted(named) if 2 * sum(n in r.failures for r in found) > len(found))
    return Ratings(**middle, failures=tuple(often))


def _spread(verdicts: Sequence[Verdict]) -> dict[str, float | None] | None:
    """Mean over cases of the standard deviation of its answers, in points; None for one answer."""
    rows: dict[str, list[float]] = {name: [] for name in DIMENSIONS}
    for verdict in verdicts:
        if verdict.ratings is None or len(verdict.answers) < 2:
            continue
        kind = answers.Acting if verdict.ratings.reasoning is None else answers.Speaking
        given = [
            kind.model_validate_json(answer["content"]).ratings() for answer in verdict.answers
        ]
        for name in DIMENSIONS:
            values = [getattr(ratings, name) for ratings in given]
            if values[0] is not None:
                rows[name].append(float(np.std(values, ddof=1)))
    if not any(rows.values()):
        return None
    return {name: float(np.mean(values)) if values else None for name, values in rows.items()}
