"""The rubric: one committed text, whose version and hash go wherever ratings by it go.

The hash is what counts; the version is for people. A test keeps the two together, so that a text
cannot change under an old number.
"""

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any, NamedTuple


class Rubric(NamedTuple):
    """A version of the rubric."""

    version: int
    sha256: str
    text: str  # without the line of the version

    def to_json(self) -> dict[str, Any]:
        """What a summary says of it."""
        return {"version": self.version, "sha256": self.sha256}


@cache
def current() -> Rubric:
    """The rubric of this code."""
    raw = resources.files("dualvla.evaluation.judging").joinpath("rubric.md").read_bytes()
    found = re.match(r"version: (\d+)\n\n", text := raw.decode("utf-8"))
    if found is None:
        raise RuntimeError("rubric.md does not begin with its version")
    return Rubric(int(found.group(1)), hashlib.sha256(raw).hexdigest(), text[found.end() :])
