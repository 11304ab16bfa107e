"""Figures the papers print, kept apart from ours.

They are shown in a table of their own, labelled "reported": the models there are twenty times
larger, trained on real data and evaluated in other renderings, so that setting them beside ours
would compare nothing; the comparison page alone does so, for results of the same protocols on the
official assets. Source: DualVLA (arXiv 2511.22134 v1), SimplerEnv table (24 trials a WidowX task),
the ablation table (mean of the three WidowX tasks) and the VLA Score table; percent.
"""

from typing import Any, NamedTuple

SOURCE = "arXiv 2511.22134 v1"
NOTE = (
    "Reported by the paper for a 2 B model trained on real robot data. {reason} They say what the "
    "method is for, and are not to be set beside the figures of this report."
)
REASONS = {
    "generated": "This report uses the generated asset pack and another model.",
    "official": "This report uses the official assets, as the paper does, but another model.",
}


class Column(NamedTuple):
    """One column of the published table, and what of an evaluation belongs into it."""

    key: str
    title: str
    protocol: str
    task: str
    trials: int


COLUMNS = (
    Column("drawer_vm", "drawer VM", "google_vm", "drawer", 216),
    Column("drawer_va", "drawer VA", "google_va", "drawer", 378),
    Column("can_vm", "can VM", "google_vm", "pick_can", 300),
    Column("can_va", "can VA", "google_va", "pick_can", 825),
    Column("near_vm", "near VM", "google_vm", "move_near", 240),
    Column("near_va", "near VA", "google_va", "move_near", 600),
    Column("spoon", "spoon", "widowx", "spoon", 24),
    Column("carrot", "carrot", "widowx", "carrot", 24),
    Column("stack", "stack", "widowx", "stack", 24),
)
# Of the same protocols, but not in the published table.
BESIDE = (
    Column("put_vm", "put in drawer VM", "google_vm", "put_in_drawer", 108),
    Column("put_va", "put in drawer VA", "google_va", "put_in_drawer", 189),
    Column("eggplant", "eggplant", "widowx", "eggplant", 64),
)
TABLE: dict[str, tuple[float, ...]] = {  # the nine columns, then the mean that the paper prints
    "OpenVLA": (63.0, 28.8, 18.0, 60.8, 56.3, 67.7, 4.2, 0.0, 0.0, 33.2),
    "SpatialVLA": (57.4, 41.8, 86.0, 88.0, 77.9, 72.7, 16.7, 25.0, 29.2, 55.0),
    "Magma": (9.7, 5.8, 46.0, 46.4, 60.0, 82.0, 45.8, 33.3, 8.3, 37.5),
    "ThinkACT": (50.0, 47.6, 92.0, 84.0, 72.4, 63.8, 58.3, 37.5, 8.7, 57.1),
    "InstructVLA-E": (47.2, 60.6, 87.7, 76.0, 68.3, 77.3, 45.8, 20.8, 20.5, 56.0),
    "InstructVLA-G": (55.0, 55.2, 77.2, 90.8, 54.1, 70.0, 33.3, 29.2, 12.5, 53.0),
    "DualVLA": (63.9, 64.0, 93.3, 82.7, 60.9, 75.3, 50.0, 50.0, 8.3, 60.9),
}
PUBLISHED = {"specialist": "InstructVLA-E", "generalist": "InstructVLA-G", "dualvla": "DualVLA"}

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
        "a": 63.1,
        "i": 73.2,
        "success": 56.0,
        "vla_score": 45.3,
    },
    "generalist": {
        "widowx_mean": 25.0,
        "r": 72.3,
        "a": 48.6,
        "i": 68.0,
        "ra": 43.3,
        "success": 53.0,
        "vla_score": 35.1,
    },
    "dualvla": {
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
    return [
        {"model": name, **_EMPTY, **_widowx(name), **_ROWS[name]}
        for name in models
        if name in _ROWS
    ]


def table() -> list[dict[str, Any]]:
    """The published table: model, a figure for each of `COLUMNS` by its key, mean_9; percent."""
    keys = [*(column.key for column in COLUMNS), "mean_9"]
    return [
        {"model": name, **dict(zip(keys, values, strict=True))} for name, values in TABLE.items()
    ]


def _widowx(model: str) -> dict[str, float]:
    """The WidowX columns of the paper's counterpart of one of our models; none without one."""
    named = {row["model"]: row for row in table()}.get(PUBLISHED.get(model, ""), {})
    return {key: named[key] for key in ("carrot", "spoon", "stack") if named}


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
