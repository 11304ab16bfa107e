import numpy as np
import pytest
import torch

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.interface import Decision, Observation
from dualvla.simulation import parallel, rollouts, starts
from dualvla.simulation.environments import Environment
from dualvla.simulation.episodes import Job
from dualvla.simulation.expert import Expert
from dualvla.simulation.random_policy import RandomPolicy

SUCCESS = conventions.ENVIRONMENT_STATE_NAMES.index("success")
SETTINGS = {"assets": "generated", "image_size": 64, "execute": 4}

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def job(task="carrot", index=0, steps=6, video=False):
    return Job(task, starts.fixed(task, "official")[index], 11 + index, steps, video)


def together(jobs, policy, **settings):
    ran = parallel.run(jobs, policy, **(SETTINGS | {"count": 1, "device": "cpu"} | settings))
    return {(t.job.task, t.job.start.id): t for t in ran}


def apart(jobs, policy, **settings):
    ran = rollouts.run(jobs, policy, workers=1, retries=0, **(SETTINGS | settings))
    return {(t.job.task, t.job.start.id): t for t in ran}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_is_refused_before_anything_starts():
    with pytest.raises(UserError, match="needs a CUDA device"):
        parallel.run([job()], RandomPolicy(), count=8, **SETTINGS)


def test_a_cpu_holds_one_episode():
    with pytest.raises(UserError, match="8 episodes in one scene on a CPU"):
        parallel.run([job()], RandomPolicy(), count=8, device="cpu", **SETTINGS)


@pytest.mark.sim
@pytest.mark.slow
class TestOneByOne:
    def test_it_gives_the_trajectories_of_worker_processes(self):
        jobs = [job(index=0, video=True), job("stack", 2, steps=5)]
        one, other = apart(jobs, RandomPolicy()), together(jobs, RandomPolicy())
        assert one.keys() == other.keys()
        for key, expected in one.items():
            found = other[key]
            assert found.status == expected.status == "ok"
            for name in ("states", "controllers", "actions", "environment_states"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            assert [step for step, _ in found.decisions] == [s for s, _ in expected.decisions]
            if found.job.video:
                np.testing.assert_array_equal(np.stack(found.frames), np.stack(expected.frames))
                np.testing.assert_array_equal(np.stack(found.images), np.stack(expected.images))
            else:
                assert found.images == []

    def test_the_expert_succeeds(self):
        (ran,) = together([job("stack", 0, 60)], Expert("generated")).values()
        assert ran.environment_states[-1, SUCCESS] == 1


@pytest.mark.sim
@pytest.mark.slow
def test_a_row_is_judged_by_the_height_that_the_simulator_finds_for_one_alone():
    environment = Environment("eggplant", "generated", 64)
    for index in (0, 3):
        environment.reset(starts.fixed("eggplant", "official")[index])
        own = environment._scene.episode_source_obj_bbox_world.clone()
        environment._judge_each()
        each = environment._scene.episode_source_obj_bbox_world
        assert each.shape == (3, 1)
        torch.testing.assert_close(each[:, 0], own)
    environment.close()


class Scene:
    """What `parallel` asks of an environment, without a simulator: a row counts its steps."""

    def __init__(self, count):
        self.count = count
        self.rendered = []

    def reset_all(self, begun):
        assert len(begun) == self.count
        self.at = np.array([int(start.id[-2:]) for start in begun], np.float32)
        return self._seen(True)

    def step_all(self, actions, render):
        assert actions.shape == (self.count, 7)
        self.at = self.at + actions[:, 0]
        self.rendered.append(render)
        return self._seen(render)

    def _seen(self, render):
        empty = np.zeros(len(conventions.ENVIRONMENT_STATE_NAMES), np.float32)
        return [
            Observation(
                np.full((2, 2, 3), row, np.uint8) if render else None,
                np.full(7, at, np.float32),
                np.full(6, at, np.float32),
                empty,
                f"row {row}",
            )
            for row, at in enumerate(self.at)
        ]


class Counting:
    """Answers row i with i + 1 actions of 0.1 x its seed: rows that ask at different steps."""

    convention = conventions.WIDOWX_SIMULATION

    def __init__(self):
        self.seeds, self.asked = {}, []

    def reset(self, slot, instruction, seed):
        assert instruction == f"row {slot}"
        self.seeds[slot] = seed

    def act(self, slots, observations):
        self.asked.append(list(slots))
        decisions = []
        for slot, seen in zip(slots, observations, strict=True):
            assert (seen.image == slot).all()
            actions = np.zeros((slot + 1, 7), np.float32)
            actions[:, 0] = 0.01 * self.seeds[slot]
            decisions.append(Decision(actions))
        return decisions


def test_rows_that_ask_at_different_steps_get_their_own_actions():
    """The batching alone, on any machine: rows are padded, ask when they must, and end apart."""
    jobs = [job(index=0, steps=4), job(index=1, steps=6, video=True), job(index=2, steps=6)]
    scene, policy = Scene(4), Counting()
    ran = {t.job.start.id: t for t in parallel._together(scene, jobs, policy, execute=2)}
    assert [len(t.actions) for t in ran.values()] == [4, 6, 6]
    for index, (name, trajectory) in enumerate(sorted(ran.items())):
        assert name == f"official-{index:02d}"
        steps = np.arange(len(trajectory.states))
        expected = index + steps * np.float32(0.01) * (11 + index)
        np.testing.assert_allclose(trajectory.states[:, 0], expected, rtol=1e-5)
    assert [step for step, _ in ran["official-00"].decisions] == [0, 1, 2, 3]
    assert [step for step, _ in ran["official-02"].decisions] == [0, 2, 4]
    assert policy.asked[:2] == [[0, 1, 2], [0]]
    assert len(ran["official-01"].frames) == 7
    assert len(ran["official-02"].frames) == len(ran["official-02"].images) == 0


def test_pictures_are_rendered_only_where_a_row_looks():
    scene = Scene(2)
    list(parallel._together(scene, [job(steps=6), job(index=1, steps=6)], Steady(), execute=3))
    assert scene.rendered == [False, False, True, False, False, True]


class Steady(Counting):
    def act(self, slots, observations):
        return [Decision(np.zeros((3, 7), np.float32)) for _ in slots]


def test_an_answer_that_is_no_action_ends_its_episode_alone():
    class Broken(Steady):
        def act(self, slots, observations):
            decisions = super().act(slots, observations)
            return [
                Decision(decision.actions * np.nan) if slot == 1 else decision
                for slot, decision in zip(slots, decisions, strict=True)
            ]

    jobs = [job(index=index) for index in range(3)]
    ran = {t.job.start.id: t for t in parallel._together(Scene(3), jobs, Broken(), execute=3)}
    assert {name: t.status for name, t in ran.items()} == {
        "official-00": "ok",
        "official-01": "error",
        "official-02": "ok",
    }
    assert "not finite" in ran["official-01"].error


@needs_cuda
@pytest.mark.gpu
@pytest.mark.sim
@pytest.mark.slow
class TestOnADevice:
    @pytest.mark.parametrize("task", ["carrot", "spoon", "stack", "eggplant"])
    def test_the_expert_succeeds_in_every_row(self, task):
        jobs = [job(task, index, 120 if task == "eggplant" else 60) for index in range(8)]
        ran = together(jobs, Expert("generated"), count=8, device="cuda")
        succeeded = sum(t.environment_states[-1, SUCCESS] for t in ran.values())
        assert succeeded >= 7

    def test_every_row_starts_where_its_start_says(self):
        jobs = [job(index=index, steps=1) for index in range(5)]
        many = together(jobs, RandomPolicy(), count=4, device="cuda")  # the last batch is padded
        one = apart(jobs, RandomPolicy())
        for key, expected in one.items():
            np.testing.assert_allclose(
                many[key].environment_states[0, :9], expected.environment_states[0, :9], atol=5e-3
            )
            np.testing.assert_allclose(many[key].states[0], expected.states[0], atol=5e-3)
