"""Figures of a long measurement, kept beside it so that it goes on where it stopped.

What was asked is kept with them: figures of other starts or seeds are refused, never mixed in.
Whoever measures models keeps their weights' hash in the rows, and measures other weights anew.
"""

import json
from pathlib import Path
from typing import Any

from dualvla import files
from dualvla.config import Params
from dualvla.errors import UserError


def settings(params: Params) -> dict[str, Any]:
    """What an episode's outcome depends on beside its policy, start and seed."""
    evaluate, simulation = params.evaluate, params.simulation
    return {
        "assets": simulation.assets,
        "image_size": simulation.image_size,
        "success_mode": evaluate.success_mode,
        "execute": evaluate.execute,
        "reason_every": evaluate.reason_every,
    }


def rows(path: Path | None, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows kept for the same question; none without a file.

    Raises:
        UserError: the file answers another question.
    """
    if path is None or not path.is_file():
        return []
    kept = files.read_json(path)
    if kept["asked"] != json.loads(json.dumps(asked)):
        what = f"figures of {kept['asked']}, not of {asked}"
        raise UserError(what, where=str(path), fix="name another file")
    return list(kept["rows"])


def keep(path: Path | None, asked: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Write rows and what they answer, whole or not at all."""
    if path is not None:
        files.write_json(path, {"asked": asked, "rows": found})
