import numpy as np
import pytest
from served import process

from dualvla.serving.client import RemotePolicy
from dualvla.simulation import rollouts, starts
from dualvla.simulation.episodes import Job
from dualvla.simulation.random_policy import RandomPolicy


@pytest.mark.sim
@pytest.mark.slow
def test_a_served_policy_gives_the_same_trajectories_as_one_in_this_process():
    first = starts.fixed("carrot", "official")[:2]
    jobs = [Job("carrot", start, 11 + i, 12) for i, start in enumerate(first)]

    def trajectories(policy):
        settings = {"assets": "generated", "image_size": 64, "workers": 2, "execute": 4}
        ran = rollouts.run(jobs, policy, retries=0, **settings)
        return sorted(ran, key=lambda trajectory: trajectory.job.seed)

    here = trajectories(RandomPolicy())
    with process("-m", "dualvla.cli", "serve", "random", "--port", "0") as (_, url):
        there = trajectories(RemotePolicy(url))
    for one, other in zip(here, there, strict=True):
        assert one.status == other.status == "ok"
        for name in ("states", "controllers", "actions", "environment_states"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert [step for step, _ in one.decisions] == [step for step, _ in other.decisions]
