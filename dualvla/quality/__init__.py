"""Quality gates: what must hold of a stage's output before the next stage may see it.

A stage calls its gate last, while `out` is still the temporary folder beside its final place:

    quality.gate("demonstrations", out, params=params)
    quality.gate("annotations", out, params=params)
    quality.gate("multimodal", out, params=params)
    quality.gate("mixture", out, params=params, annotated=paths.ANNOTATED)
    quality.gate("pruned", out, params=params, annotated=paths.ANNOTATED)
    quality.gate("metrics", out, params=params, subject="evaluate/dualvla")

`out` is the folder that becomes `data/demonstrations`, `data/annotated`, `data/multimodal`,
`data/mixture`, `data/pruned` or `results/<stage>/<model>` (any folder with a `summary.json`). It
gets `quality.json` and `quality.html`, and `.cache/quality/<name>.{json,html}` a copy of both,
because the folder of a failed stage is thrown away.

Great Expectations does the checking and costs 2 to 4 s to import, so it is imported inside the call
only. The gate is a part of its stage, not a stage of its own: `dvc repro` cannot skip it, and the
price is that a changed expectation does not by itself run an old stage again.
"""

from pathlib import Path
from typing import Any

from dualvla.errors import QualityError

__all__ = ["SUITES", "QualityError", "gate"]

SUITES = ("demonstrations", "annotations", "multimodal", "mixture", "pruned", "metrics")
REPORTS = Path(".cache/quality")  # survives the folder of a failed stage


def gate(suite: str, out: Path, *, params: Any, subject: str | None = None, **inputs: Any) -> None:
    """Check a stage's output; write `quality.json` and `quality.html` into it.

    Args:
        suite: one of `SUITES`.
        out: folder that holds everything the stage wrote.
        params: `config.Params`; expectations read their bounds from it.
        subject: what is checked when one suite serves several outputs, such as `score/dualvla`.
        inputs: other folders that the suite compares with (see the module's docstring).

    Raises:
        QualityError: a hard expectation failed; names the dataset, episode and frame.
        ValueError: no such suite.
    """
    from dualvla.quality import run

    run.gate(suite, Path(out), params, subject=subject, inputs=inputs, reports=REPORTS)
