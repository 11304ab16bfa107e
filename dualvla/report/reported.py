"""Figures the papers print, kept apart from ours.

They are shown in a table of their own, labelled "reported": the models there are twenty times
larger, trained on real data and evaluated in other renderings, so that setting them beside ours
would compare nothing. Source: DualVLA (arXiv 2511.22134 v1), SimplerEnv WidowX columns (24 trials a
task), the ablation table (mean of the three WidowX tasks) and the VLA Score table; percent.
"""

from typing import Any

SOURCE = "arXiv 2511.22134 v1"
NOTE = (
    "Reported by the paper for a 2 B model trained on real robot data. {reason} They say what the "
    "method is for, and are not to be set beside the figures of this report."
)
REASONS = {
    "generated": "This report uses the generated asset pack and another model.",
    "official": "This report uses the official assets, as the paper does, but another model.",
}

_EMPTY: dict[str, float | None] = {
    "carrot": None,
    "spoon": None,
    "stack": None,
    "widowx_mean": None,
    "r": None,
    "a": None,
    "i": None,
    "ra": None,
    "success": None,
    "vla_score": None,
}
_ROWS: dict[str, dict[str, float]] = {
    "specialist": {
        "carrot": 20.8,
        "spoon": 45.8,
        "stack": 20.5,
        "a": 63.1,
        "i": 73.2,
        "success": 56.0,
        "vla_score": 45.3,
    },
    "generalist": {
        "carrot": 29.2,
        "spoon": 33.3,
        "stack": 12.5,
        "widowx_mean": 25.0,
        "r": 72.3,
        "a": 48.6,
        "i": 68.0,
        "ra": 43.3,
        "success": 53.0,
        "vla_score": 35.1,
    },
    "dualvla": {
        "carrot": 50.0,
        "spoon": 50.0,
        "stack": 8.3,
        "widowx_mean": 31.1,
        "r": 74.0,
        "a": 64.8,
        "i": 74.7,
        "ra": 51.0,
        "success": 61.0,
        "vla_score": 42.9,
    },
    "base_ft": {"widowx_mean": 33.3},
    "distill_only": {"widowx_mean": 29.2},
    "prune_only": {"widowx_mean": 28.1},
    "random_mask": {"widowx_mean": 23.1},
    "scene_only": {"widowx_mean": 30.3},
    "kinematic_only": {"widowx_mean": 28.3},
    "no_action_teacher": {"widowx_mean": 26.1},
    "no_reasoning_teacher": {"widowx_mean": 34.7},
}


def rows(models: list[str]) -> list[dict[str, Any]]:
    """The paper's figures for `models` it reports, in percent; null where it prints none."""
    return [{"model": name, **_EMPTY, **_ROWS[name]} for name in models if name in _ROWS]


_ABLATION = {  # six Google columns, three WidowX, eight multimodal benchmarks; percent
    "generalist": (67.1, 25.0, 65.5),
    "dualvla": (73.4, 31.1, 65.4),
    "base_ft": (66.1, 33.3, 65.1),
    "prune_only": (70.4, 28.1, 65.2),
    "distill_only": (72.4, 29.2, 65.0),
    "random_mask": (63.6, 23.1, 64.6),
    "scene_only": (72.0, 30.3, 64.8),
    "kinematic_only": (66.8, 28.3, 61.3),
    "no_action_teacher": (67.8, 26.1, 65.2),
    "no_reasoning_teacher": (74.3, 34.7, 30.7),
}


def ablation(models: list[str]) -> list[dict[str, Any]]:
    """The paper's ablation table for `models` in it, in percent; it has no intervals."""
    names = ("google", "widowx", "multimodal")
    return [
        {"model": name, **dict(zip(names, _ABLATION[name], strict=True))}
        for name in models
        if name in _ABLATION
    ]


def note(assets: str) -> str:
    """Why they may not be compared with results on an asset pack."""
    return NOTE.format(reason=REASONS[assets])
