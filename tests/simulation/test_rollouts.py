import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from dualvla.conventions import ENVIRONMENT_STATE_NAMES, WIDOWX_SIMULATION
from dualvla.errors import UserError
from dualvla.simulation import rollouts, starts
from dualvla.simulation.episodes import Job
from dualvla.simulation.expert import Expert
from dualvla.simulation.random_policy import RandomPolicy

SETTINGS = {"assets": "generated", "image_size": 64, "retries": 1}


def job(task="carrot", index=0, steps=6, video=False):
    return Job(task, starts.fixed(task, "official")[index], 11 + index, steps, video)


def test_unknown_task_is_refused_before_anything_starts():
    wrong = replace(job(), task="tray")
    with pytest.raises(UserError, match="no such task: tray"):
        rollouts.run([wrong], RandomPolicy(), workers=1, execute=1, **SETTINGS)


def test_a_policy_of_another_convention_is_refused():
    policy = RandomPolicy()
    policy.convention = replace(WIDOWX_SIMULATION, gripper="absolute, +1 closed, -1 open")
    with pytest.raises(UserError, match="convention gripper differs"):
        rollouts.run([job()], policy, workers=1, execute=1, **SETTINGS)


def test_random_policy_repeats_itself_by_seed():
    policy = RandomPolicy(3)
    drawn = []
    for seed in (1, 2, 1):
        policy.reset(0, "", seed)
        drawn.append(policy.act([0], [None])[0].actions)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])


class Killing(RandomPolicy):
    """Kills simulation processes while their first decisions are made."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def act(self, slots, observations):
        if self.times:
            self.times -= 1
            os.kill(_children()[0], signal.SIGKILL)
        return super().act(slots, observations)


def _children():
    import multiprocessing

    return [child.pid for child in multiprocessing.active_children()]


@pytest.mark.sim
@pytest.mark.slow
class TestWorkers:
    def by_start(self, jobs, policy, **settings):
        ran = rollouts.run(jobs, policy, execute=4, **(SETTINGS | settings))
        return {trajectory.job.start.id: trajectory for trajectory in ran}

    def test_number_of_workers_changes_nothing(self):
        jobs = [job(index=index, video=index == 1) for index in range(3)]
        one = self.by_start(jobs, RandomPolicy(), workers=1)
        two = self.by_start(jobs, RandomPolicy(), workers=2)
        assert one.keys() == two.keys()
        for name, first in one.items():
            second = two[name]
            assert first.status == second.status == "ok"
            np.testing.assert_array_equal(first.actions, second.actions)
            np.testing.assert_array_equal(first.environment_states, second.environment_states)
            np.testing.assert_array_equal(np.stack(first.images), np.stack(second.images))
            assert len(first.states) == len(first.actions) + 1 == 7
            assert [step for step, _ in first.decisions] == [0, 4]
            assert len(first.frames) == (7 if first.job.video else 0)

    def test_a_killed_worker_is_replaced_and_its_episode_repeated(self):
        calm = self.by_start([job()], RandomPolicy(), workers=1)
        struck = self.by_start([job()], Killing(1), workers=1)
        (one,), (other,) = calm.values(), struck.values()
        assert other.status == "ok"
        np.testing.assert_array_equal(one.states, other.states)

    def test_after_the_retries_the_episode_is_an_error_and_the_others_run_on(self):
        ran = self.by_start([job(index=0), job(index=1)], Killing(2), workers=1)
        assert ran["official-00"].status == "error"
        assert "exit code -9" in ran["official-00"].error
        assert len(ran["official-00"].states) == 0
        assert ran["official-01"].status == "ok"

    def test_the_expert_succeeds_through_rollouts(self):
        jobs = [job("stack", 0, 60)]
        ran = self.by_start(jobs, Expert("generated"), workers=1, retries=0)
        (trajectory,) = ran.values()
        assert trajectory.environment_states[-1, ENVIRONMENT_STATE_NAMES.index("success")] == 1
