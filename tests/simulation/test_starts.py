from itertools import combinations

import numpy as np
import pytest

from dualvla import config
from dualvla.errors import UserError
from dualvla.simulation import starts

TASKS = list(starts.WORKSPACES)
PARAMS = config.load("params.yaml").demonstrations
SETS = ("official", "shifted", "validation", "instruct_rephrased", "instruct_situated")


@pytest.mark.parametrize(
    ("task", "count"), [("carrot", 24), ("spoon", 24), ("stack", 24), ("eggplant", 64)]
)
def test_counts(task, count):
    assert [len(starts.fixed(task, name)) for name in SETS] == [count, 48, 24, 24, 24]


@pytest.mark.parametrize("task", TASKS)
def test_no_fixed_start_comes_twice(task):
    every = [start for name in SETS for start in starts.fixed(task, name)]
    assert len({start.id for start in every}) == len(every)
    assert not any(starts.same(one, other) for one, other in combinations(every, 2))


@pytest.mark.parametrize("task", TASKS)
def test_demonstrations_are_no_evaluation_starts(task):
    rng = np.random.default_rng(0)
    fixed = [start for name in SETS for start in starts.fixed(task, name)]
    for _ in range(20):
        drawn = starts.demonstration(task, rng, PARAMS)
        assert not any(starts.same(drawn, other) for other in fixed)


@pytest.mark.parametrize("task", TASKS)
def test_without_jitter_only_uniform_starts_remain(task):
    still = PARAMS.model_copy(update={"jitter_xy": 0.0, "jitter_yaw": 0.0})
    drawn = starts.demonstration(task, np.random.default_rng(1), still)
    assert not any(starts.same(drawn, other) for other in starts.fixed(task, "official"))
    none = still.model_copy(update={"uniform_share": 0.0})
    with pytest.raises(UserError, match="all equal an evaluation start"):
        starts.demonstration(task, np.random.default_rng(1), none)


@pytest.mark.parametrize("task", TASKS)
def test_a_start_is_a_function_of_its_generator(task):
    one, other = (starts.demonstration(task, np.random.default_rng(7), PARAMS) for _ in range(2))
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.quaternions, other.quaternions)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SETS)
def test_quaternions_have_length_one_and_objects_lie_apart(task, name):
    for start in starts.fixed(task, name):
        lengths = np.linalg.norm(start.quaternions, axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-3)
        apart = np.linalg.norm(start.positions[0, :2] - start.positions[1, :2])
        assert apart > 0.06


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SETS[1:])
def test_no_source_lies_where_no_demonstration_begins(task, name):
    space = starts.WORKSPACES[task]
    for start in starts.fixed(task, name):
        reach = np.abs(start.positions[0, :2] - space.centre)
        assert (reach <= np.add(space.wide, 1e-9)).all(), start.id


def test_unknown_names_are_user_errors():
    with pytest.raises(UserError, match="no such task: tray"):
        starts.fixed("tray", "official")
    with pytest.raises(UserError, match="no such set"):
        starts.fixed("carrot", "mine")
