"""What the suites count in sentences: words, positions, how often the commonest answer is given."""

import re
from collections import Counter
from collections.abc import Iterable

from dualvla.evaluation.statistics import wilson

POSITION = re.compile(r"\bat (-?\d+) (-?\d+)\b")


def words(text: str) -> int:
    """Number of words; a lone mark such as `;` is none."""
    return sum(any(c.isalnum() for c in part) for part in text.split())


def positions(text: str) -> list[int]:
    """Coordinates in a text (`carrot at 34 60`), percent of image width and height."""
    return [int(number) for pair in POSITION.findall(text) for number in pair]


def dominance(answers: Iterable[str]) -> float:
    """Share of the commonest answer, low end of its 95 % interval: a few may lean by chance."""
    counts = Counter(answers)
    return wilson(max(counts.values()), counts.total())[0] if counts else 0.0
