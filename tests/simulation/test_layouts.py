from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualvla import config
from dualvla.simulation import grips, layouts
from dualvla.simulation.environments import TASKS
from dualvla.simulation.shapes import Setting, Shape, apply, turn

DEMONSTRATIONS = config.load(Path(__file__).parents[2] / "params.yaml").demonstrations
TABLE_TOP = 0.87
EXTENTS = {
    "carrot": (0.118, 0.032, 0.041),
    "spoon": (0.141, 0.036, 0.027),
    "green cube": (0.03, 0.03, 0.03),
    "yellow cube": (0.03, 0.03, 0.03),
    "eggplant": (0.079, 0.037, 0.038),
    "plate": (0.11, 0.11, 0.006),
    "towel": (0.1, 0.1, 0.011),
}
SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2


def shape(name: str) -> Shape:
    return Shape((SIGNS * EXTENTS[name],), np.eye(3), rolls=name == "eggplant")


def table() -> Setting:
    base = np.eye(4)
    base[:3, :3], base[:3, 3] = turn(2, np.pi), [0.147, 0.028, 0.87]
    return Setting(
        name="table",
        shapes={name: shape(name) for name in EXTENTS},
        floor=lambda points: np.full(len(points), TABLE_TOP),
        project=lambda points: np.full((len(points), 2), 0.5),
        base=base,
        basket=None,
        finger_inner=0.011,
        rest=np.zeros(6),
    )


def drawn(seed: int, task: str) -> layouts.Layout:
    rng = np.random.default_rng(seed)
    for _ in range(200):
        layout = layouts.sample(rng, table(), task, DEMONSTRATIONS)
        if layout is not None:
            return layout
    raise AssertionError("no layout in 200 draws")


TABLE_TASKS = st.sampled_from(["carrot", "spoon", "stack", layouts.MIXED])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), task=TABLE_TASKS)
def test_nothing_is_below_the_table(seed: int, task: str) -> None:
    layout = drawn(seed, task)
    for name, matrix in layout.poses.items():
        assert apply(matrix, shape(name).vertices)[:, 2].min() > TABLE_TOP - 1e-6
    if layout.arm.tip is not None:
        assert layout.arm.tip[2] > TABLE_TOP


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), task=TABLE_TASKS)
def test_objects_on_the_table_do_not_overlap(seed: int, task: str) -> None:
    layout = drawn(seed, task)
    raised = {layout.held, layout.placed[0] if layout.placed else None}
    raised.add("eggplant")  # lies on any side: its box says nothing of its footprint
    resting = [name for name in layout.poses if name not in raised]
    for i, one in enumerate(resting):
        for other in resting[:i]:
            # Points inside one box are outside the other.
            grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 7)] * 2), -1).reshape(-1, 2) / 2
            points = np.column_stack([grid * EXTENTS[one][:2], np.zeros(len(grid))])
            moved = apply(layout.poses[one], points) - layout.poses[other][:3, 3]
            local = np.abs(moved @ layout.poses[other][:3, :3])
            half = np.array(EXTENTS[other]) / 2
            assert not np.any(np.all(local[:, :2] < half[:2], axis=1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), task=TABLE_TASKS)
def test_a_held_object_is_between_the_fingers(seed: int, task: str) -> None:
    layout = drawn(seed, task)
    if layout.held is None:
        return
    assert layout.arm.tip is not None
    assert layout.arm.rotation is not None
    corners = apply(layout.poses[layout.held], shape(layout.held).vertices)
    across = (corners - layout.arm.tip) @ layout.arm.rotation[:, 1]
    assert across.min() < 0 < across.max()
    assert grips.FINGER[0] <= layout.arm.finger <= grips.FINGER[1]


def test_a_task_scene_shows_its_pair_and_a_third_holds_something() -> None:
    found = [drawn(seed, "carrot") for seed in range(120)]
    assert all(set(layout.poses) == {"carrot", "plate"} for layout in found)
    held = sum(layout.held is not None for layout in found) / len(found)
    assert 0.2 < held < 0.5
    assert any(layout.placed == ("carrot", "plate") for layout in found)


def test_half_of_the_scenes_are_a_tasks_own() -> None:
    rng = np.random.default_rng(0)
    chosen = [layouts.choose(rng, tuple(TASKS)) for _ in range(2000)]
    assert 0.45 < np.mean([task != layouts.MIXED for _, task in chosen]) < 0.55
    assert {setting for setting, _ in chosen} == {"table", "sink"}
    assert {s for s, _ in (layouts.choose(rng, ("carrot", "stack")) for _ in range(50))} == {
        "table"
    }


@pytest.mark.parametrize(("at", "width"), [(0.0, 0.032), (0.05, 0.032)])
def test_a_cut_spans_the_width(at: float, width: float) -> None:
    cut = shape("carrot").slice(at)
    assert np.ptp(cut[:, 1]) == pytest.approx(width)
    assert not len(shape("carrot").slice(0.2))
