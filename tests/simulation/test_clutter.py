import numpy as np
import pytest

from dualvla import poses
from dualvla.simulation import clutter, starts

SETS = ("instruct_rephrased", "instruct_situated")
TASKS = list(starts.PAIRS)


def placed(task, start):
    return clutter.Placed(
        (*starts.PAIRS[task], *start.distractors), start.positions, start.quaternions
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SETS)
def test_distractors_have_room_and_are_in_the_picture(task, name):
    for start in starts.fixed(task, name):
        every = placed(task, start)
        assert 1 <= len(start.distractors) <= 3
        assert len(set(every.names)) == len(every.names) == len(every.positions)
        for count in range(2, len(every.names)):
            before = clutter.Placed(*(part[:count] for part in vars(every).values()))
            thing = every.names[count], every.positions[[count]], every.quaternions[[count]]
            assert clutter.spare(before, *thing).min() >= 0
        uv = clutter.seen(task, start.positions[2:])
        assert uv.min() > 0.05
        assert uv.max() < 0.95


def test_things_on_top_of_each_other_have_no_room():
    turn = poses.yaw_quaternion(0.0)
    places = np.array([[-0.2, -0.1, 0.9], [0.0, 0.1, 0.9]])
    pair = clutter.Placed(("carrot", "plate"), places, np.stack([turn, turn]))
    spare = clutter.spare(pair, "spoon", places[:1], turn[None])[0]
    assert spare[0] < 0 < spare[1]


@pytest.mark.parametrize("task", TASKS)
def test_a_cluttered_start_keeps_its_pair(task):
    rng = np.random.default_rng(0)
    plain = starts.fixed(task, "validation")[0]
    start = starts.cluttered(task, plain, rng)
    assert start.distractors
    assert starts.same(start, plain)
    assert start.instruction == ""
    again = starts.cluttered(task, plain, np.random.default_rng(0))
    assert again.distractors == start.distractors
    np.testing.assert_array_equal(again.positions, start.positions)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_camera_is_the_simulators(task):
    from dualvla.simulation.environments import reuse

    environment = reuse(task, "generated", 64)
    environment.reset(starts.fixed(task, "official")[0])
    true, known = environment.camera(), clutter.camera(task)
    np.testing.assert_allclose(known.extrinsic, true.extrinsic, atol=1e-5)
    np.testing.assert_allclose(known.intrinsic, true.intrinsic, atol=1e-5)
    np.testing.assert_allclose(clutter.surface(task).base, environment._base[:3], atol=1e-6)
