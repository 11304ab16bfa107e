import evaluation_speed
import numpy as np

from dualvla.interface import Decision
from dualvla.simulation.random_policy import RandomPolicy


def test_starts_come_in_turn_and_every_episode_has_its_own_seed():
    asked = evaluation_speed.jobs("carrot", 30)
    assert asked[0].start.id == asked[24].start.id
    assert [job.seed for job in asked] == list(range(30))


def test_the_page_tells_an_hour_of_episodes_and_what_was_not_measured():
    seconds = {"carrot": 10.0, "spoon": 10.0, "stack": 10.0, "eggplant": 20.0}
    row = {"engine": "simulation, 2", "size": "224x224", "seconds": seconds, "goal": 1500}
    page = evaluation_speed.page(
        {
            "episodes": 6,
            "policy": "tiny",
            "assets": "generated",
            "hardware": "a machine",
            "commit": "abc",
            "note": "",
            "rows": [row],
            "decisions": {1: 10.0, 4: 20.0},
        }
    )
    assert "| simulation, 2 | 224x224 | 360 | 360 | 360 | 180 | **288** | 1500 |" in page
    assert "`parallel` was not measured" in page
    assert "| 4 | 20 | 2.00 |" in page


def test_a_policy_is_asked_for_all_environments_at_once():
    class Counting(RandomPolicy):
        asked = ()

        def act(self, slots, observations):
            self.asked = tuple(slots)
            assert all(isinstance(seen.image, np.ndarray) for seen in observations)
            return [Decision(np.zeros((1, 7), np.float32)) for _ in slots]

    policy = Counting()
    assert evaluation_speed.decisions_a_second(policy, 4) > 0
    assert policy.asked == (0, 1, 2, 3)
