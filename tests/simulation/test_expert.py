import re
import subprocess
import sys

import numpy as np
import pytest

from dualvla.conventions import PHASES
from dualvla.errors import UserError
from dualvla.simulation import starts
from dualvla.simulation.assets.pack import official
from dualvla.simulation.environments import TASKS, reuse, value
from dualvla.simulation.expert import MAX_STEP, MAX_TURN, SKILLS, Expert
from dualvla.simulation.instructions import INSTRUCTIONS

PACK = "generated"


def test_every_task_has_a_skill():
    assert SKILLS.keys() == TASKS.keys()


def test_grasp_branches_are_no_usual_yaw():
    # Official yaws of carrot and spoon are 0 and 90 degrees, of the cubes 0.
    for task in ("carrot", "spoon"):
        for yaw in (0, np.pi / 2):
            distance = (yaw - SKILLS[task].branch) % SKILLS[task].period
            assert min(distance, SKILLS[task].period - distance) > np.radians(40)


def test_unknown_instruction_is_a_user_error():
    with pytest.raises(UserError, match="knows no task"):
        Expert(PACK).reset(0, "wash the dishes", 0)


def test_expert_knows_what_the_instruct_starts_ask_for():
    expert = Expert(PACK)
    for one in INSTRUCTIONS:
        expert.reset(0, one.text, 0)
        assert expert._episodes[0].skill == SKILLS[one.task]


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("pack", ["generated", "official"])
def test_expert_solves_the_instruct_starts(pack):
    """In a process of its own: one asset pack a process. Every start: benchmarks/instruct.py."""
    if pack == "official":
        root = official()
        if not (root / "data").is_dir():
            pytest.skip("no official assets under MS_ASSET_DIR")
    script = [sys.executable, "benchmarks/instruct.py", "--assets", pack, "--every", "12"]
    ran = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rates = re.findall(r"(\d+) of (\d+)$", ran.stdout, re.MULTILINE)
    assert len(rates) == 2 * len(TASKS)
    solved, tried = np.array(rates, int).sum(0)
    assert solved / tried >= 0.95


@pytest.mark.sim
@pytest.mark.parametrize("task", list(TASKS))
def test_expert_succeeds_and_keeps_within_its_limits(task):
    environment, expert = reuse(task, PACK, 64), Expert(PACK)
    seen = environment.reset(starts.fixed(task, "official")[2])
    expert.reset(0, seen.instruction, 0)
    phases = []
    for _ in range(environment.max_steps):
        action = expert.act([0], [seen])[0].actions[0]
        phases.append(expert.phase(0))
        assert np.linalg.norm(action[:3]) < MAX_STEP + 1e-6
        assert np.linalg.norm(action[3:6]) < MAX_TURN + 1e-6
        seen = environment.step(action, render=False)
    assert value(seen, "success") == 1
    assert value(seen, "grasped") == 0
    assert set(phases) == set(range(len(PHASES)))
    assert phases == sorted(phases)  # nothing had to be tried twice
    assert len(phases) - phases.index(len(PHASES) - 1) > 10  # done long before the end
