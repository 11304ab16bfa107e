"""Answers of endpoints by what was asked, on disk, so that a rerun costs nothing.

The key is the SHA-256 of all that was sent and to where; the key of the account is no part of it
and is never stored. Only checked answers are kept: what failed is asked again.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualvla import files

ROOT = Path(".cache/judge")  # outside DVC


class Cache:
    """A folder of answers; threads and processes may share it."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._lock = threading.Lock()

    def get(self, question: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to a question; None if there is none, or it is no JSON any more."""
        try:
            found = json.loads(self._path(question).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, question: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep an answer."""
        with self._lock:  # two threads with one question would write beside the same file
            files.write_json(self._path(question), dict(answer))

    def _path(self, question: Mapping[str, Any]) -> Path:
        text = json.dumps(question, sort_keys=True, separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.root / name[:2] / f"{name}.json"
