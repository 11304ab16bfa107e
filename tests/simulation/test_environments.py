import numpy as np
import pytest
import torch

from dualvla import poses
from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.errors import UserError
from dualvla.interface import Observation
from dualvla.objects import BY_NAME
from dualvla.simulation import starts
from dualvla.simulation.environments import TASKS, Environment, value

SIZE = 64


def test_every_task_names_known_objects():
    for task, spec in TASKS.items():
        assert spec.name == task
        assert {spec.source, spec.target} <= BY_NAME.keys()


def test_unknown_task_is_a_user_error():
    with pytest.raises(UserError, match="no such task: tray"):
        Environment("tray", "generated", SIZE)


@pytest.mark.sim
class TestCarrot:
    @pytest.fixture(scope="class")
    def environment(self):
        made = Environment("carrot", "generated", SIZE)
        yield made
        made.close()

    def start(self, index=0):
        return starts.fixed("carrot", "official")[index]

    def play(self, environment, start, seed=0, steps=5):
        rng = np.random.default_rng(seed)
        seen = [environment.reset(start)]
        for _ in range(steps):
            move = np.r_[rng.normal(0, [0.02] * 3 + [0.1] * 3), rng.choice([-1.0, 1.0])]
            seen.append(environment.step(move.astype(np.float32)))
        return seen

    def test_start_tables_are_maniskills(self, environment):
        from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval import put_on_in_scene as tasks

        classes = {
            "carrot": tasks.PutCarrotOnPlateInScene,
            "spoon": tasks.PutSpoonOnTableClothInScene,
            "stack": tasks.StackGreenCubeOnYellowCubeBakedTexInScene,
            "eggplant": tasks.PutEggplantInBasketScene,
        }
        for task, kind in classes.items():
            tables = _tables(kind)
            official = starts.fixed(task, "official")
            assert len(official) == len(tables[0]) * len(tables[1])
            for episode, start in enumerate(official):
                place, turn = divmod(episode, len(tables[1]))
                np.testing.assert_allclose(start.positions, tables[0][place], atol=1e-6)
                np.testing.assert_allclose(start.quaternions, tables[1][turn], atol=1e-6)

    def test_resets_are_bit_exact_whatever_came_before(self, environment):
        first = self.play(environment, self.start())
        self.play(environment, self.start(5), seed=1)
        again = self.play(environment, self.start())
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.state, other.state)
            np.testing.assert_array_equal(one.environment_state, other.environment_state)

    def test_composing_an_action_gives_the_next_controller(self, environment):
        rng = np.random.default_rng(3)
        seen = environment.reset(self.start())
        for _ in range(6):
            action = np.r_[rng.normal(0, 0.02, 3), rng.normal(0, 0.2, 3), 1.0].astype(np.float32)
            expected = poses.compose(seen.controller, action)
            seen = environment.step(action, render=False)
            np.testing.assert_allclose(seen.controller, expected, atol=2e-6)

    def test_a_start_with_distractors_leaves_no_trace(self, environment):
        first = self.play(environment, self.start())
        riddle = starts.fixed("carrot", "instruct_situated")[0]
        seen = environment.reset(riddle)
        assert seen.instruction == riddle.instruction
        assert seen.environment_state.shape == first[0].environment_state.shape
        assert len(environment._scene.objs) == 2 + len(riddle.distractors)
        again = self.play(environment, self.start())
        for one, other in zip(first, again, strict=True):
            assert one.instruction == other.instruction
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.environment_state, other.environment_state)

    def test_picking_up_a_distractor_is_a_failure(self, environment):
        import sapien

        riddle = starts.fixed("carrot", "instruct_situated")[0]
        assert value(environment.reset(riddle), "moved_wrong") == 0
        open_gripper = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
        assert value(environment.step(open_gripper, render=False), "moved_wrong") == 0
        actors = environment._scene.objs
        taken = actors[BY_NAME[riddle.distractors[0]].model]
        place = taken.pose.sp
        taken.set_pose(sapien.Pose(place.p + [0, 0, 0.3], place.q))
        assert value(environment.step(open_gripper, render=False), "moved_wrong") == 1
        taken.set_pose(place)
        # Even if the carrot is put on the plate after all.
        source, target = (actors[thing.model] for thing in environment.spec.objects)
        source.set_pose(sapien.Pose(target.pose.sp.p + [0, 0, 0.03], source.pose.sp.q))
        for _ in range(3):
            seen = environment.step(open_gripper, render=False)
        assert value(seen, "on_target") == 1
        assert value(seen, "success") == 0
        assert value(seen, "moved_wrong") == 1

    def test_skipping_the_picture_changes_nothing_else(self, environment):
        shown = self.play(environment, self.start())
        rng = np.random.default_rng(0)
        environment.reset(self.start())
        for seen in shown[1:]:
            move = np.r_[rng.normal(0, [0.02] * 3 + [0.1] * 3), rng.choice([-1.0, 1.0])]
            blind = environment.step(move.astype(np.float32), render=False)
            assert blind.image is None
            np.testing.assert_array_equal(blind.environment_state, seen.environment_state)

    def test_first_observation(self, environment):
        seen = environment.reset(self.start())
        assert isinstance(seen, Observation)
        assert seen.image.shape == (SIZE, SIZE, 3)
        assert seen.image.dtype == np.uint8
        assert seen.environment_state.shape == (len(ENVIRONMENT_STATE_NAMES),)
        assert seen.state[6] == 1  # the gripper starts open
        assert value(seen, "phase") == -1
        for thing in ("source", "target", "gripper"):
            assert 0 < value(seen, f"{thing}.u") < 1
            assert 0 < value(seen, f"{thing}.v") < 1

    def test_projection_agrees_with_the_picture(self, environment):
        # Two starts that differ in the carrot's corner alone: there the pictures differ.
        one, other = self.start(0), self.start(14)
        np.testing.assert_array_equal(one.positions[1], other.positions[1])
        seen = [environment.reset(start) for start in (one, other)]
        change = np.abs(seen[0].image.astype(int) - seen[1].image).sum(-1) > 40
        assert change.mean() < 0.1
        for shown in seen:
            row, column = (int(value(shown, f"source.{axis}") * SIZE) for axis in "vu")
            assert change[row, column]

    @pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan)])
    def test_a_bad_action_is_refused(self, environment, action):
        with pytest.raises(ValueError, match="not an action"):
            environment.step(action)


def _tables(kind):
    """Start tables of a ManiSkill task class, without building its scene."""

    class Bare(kind):
        pass

    found = {}
    base = kind.__mro__[1]
    original = base.__init__
    try:
        base.__init__ = lambda self, **settings: found.update(settings)
        Bare()
    finally:
        base.__init__ = original
    return np.asarray(found["xyz_configs"]), np.asarray(found["quat_configs"])


@pytest.mark.sim
def test_a_step_is_that_of_the_simulators_own_loop():
    start = starts.fixed("eggplant", "official")[0]
    actions = np.random.default_rng(0).normal(0, 0.02, (4, 7)).astype(np.float32)
    environment = Environment("eggplant", "generated", SIZE)
    environment.reset(start)
    ours = [environment.step(action, render=False).environment_state for action in actions]
    environment.reset(start)
    with torch.inference_mode():
        for action, expected in zip(actions, ours, strict=True):
            environment._scene._step_action(torch.from_numpy(action))
            (seen,) = environment._observe(environment._scene.get_info(), None)
            np.testing.assert_array_equal(seen.environment_state, expected)
    environment.close()
