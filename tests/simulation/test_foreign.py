import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import little_robot
import numpy as np
import pytest

from dualvla import conventions
from dualvla.errors import UserError
from dualvla.interface import Decision
from dualvla.simulation import foreign, rollouts
from dualvla.simulation.episodes import Job

SUCCESS = conventions.ENVIRONMENT_STATE_NAMES.index("success")
TESTS = str(Path(little_robot.__file__).parent)
PROGRAM = foreign.Program(sys.executable, "little_robot:Environment", {"PYTHONPATH": TESTS})


@dataclass(frozen=True)
class Start:
    id: str
    episode: dict = field(default_factory=dict)
    instruction: str = ""

    def to_json(self):
        return {"target": [0.2, -0.1], **self.episode}


class Reacher:
    """Moves to the green dot that it sees."""

    convention = conventions.GOOGLE_SIMULATION

    def __init__(self):
        self.told = []

    def reset(self, slot, instruction, seed):
        self.told.append((slot, instruction, seed))

    def act(self, slots, observations):
        decisions = []
        for seen in observations:
            row, column = np.argwhere(seen.image[..., 1] == 255)[0]
            target = (np.array([row, column]) + 0.5) / seen.image.shape[:2] - 0.5
            actions = np.zeros((2, 7), np.float32)
            actions[0, :2] = np.clip(target - seen.state[:2], -0.1, 0.1)
            decisions.append(Decision(actions))
        return decisions


def job(index=0, steps=8, video=False, **episode):
    return Job("reach", Start(f"start-{index}", episode), 7 + index, steps, video)


def run(jobs, policy=None, program=PROGRAM, workers=1, retries=1):
    engine = foreign.engine(program, conventions.GOOGLE_SIMULATION)
    ran = rollouts.drive(
        jobs, policy or Reacher(), engine, workers=workers, execute=2, retries=retries
    )
    return {trajectory.job.start.id: trajectory for trajectory in ran}


def test_a_host_in_another_process_runs_an_episode_with_pictures():
    (ran,) = run([job(video=True)]).values()
    assert ran.status == "ok"
    assert ran.environment_states[-1, SUCCESS] == 1
    assert ran.states.shape == (9, 7)
    # Every frame is its own step's: its blue channel counts them.
    assert [int(frame[0, 0, 2]) for frame in ran.frames] == list(range(9))
    assert [int(image[0, 0, 2]) for image in ran.images] == [0, 2, 4, 6]
    assert ran.frames[0].shape == (little_robot.HEIGHT, little_robot.WIDTH, 3)


def test_what_the_host_tells_is_what_the_simulator_said_to_the_last_bit():
    (ran,) = run([job()]).values()
    simulator = little_robot.Environment()
    said = [simulator.reset(job().start.to_json())]
    said += [simulator.step(action, False) for action in ran.actions]
    np.testing.assert_array_equal(
        ran.states, np.stack([one["state"] for one in said]).astype(np.float32)
    )


def test_what_a_simulator_does_not_know_is_nan():
    (ran,) = run([job()]).values()
    known = np.isfinite(ran.environment_states).all(axis=0)
    assert np.flatnonzero(known).tolist() == [SUCCESS]


def test_number_of_hosts_changes_nothing():
    jobs = [job(index, target=[0.1 * index - 0.2, 0.1]) for index in range(4)]
    one, two = run(jobs), run(jobs, workers=2)
    assert one.keys() == two.keys()
    for name, first in one.items():
        np.testing.assert_array_equal(first.states, two[name].states)
        np.testing.assert_array_equal(np.stack(first.images), np.stack(two[name].images))


@pytest.mark.parametrize("how", ["raises", "aborts"])
def test_a_crashed_host_is_replaced_and_its_episode_repeated(tmp_path, how):
    calm = run([job()])["start-0"]
    struck = run([job(fails=how, fails_at=3, once=str(tmp_path / "once"))])["start-0"]
    assert (tmp_path / "once").exists()
    assert struck.status == "ok"
    np.testing.assert_array_equal(calm.states, struck.states)


@pytest.mark.parametrize(
    ("how", "error"), [("raises", "the little robot is stuck"), ("aborts", "exit code -6")]
)
def test_after_the_repeats_it_is_an_error_and_the_others_run_on(how, error):
    ran = run([job(0, fails=how, fails_at=1), job(1)])
    assert ran["start-0"].status == "error"
    assert error in ran["start-0"].error
    assert len(ran["start-0"].states) == 0
    assert ran["start-1"].status == "ok"


def test_a_hung_host_is_killed_and_its_episode_repeated(tmp_path, monkeypatch):
    once = str(tmp_path / "once")
    # A busy machine may take longer than this for a living host too, which costs a repeat.
    monkeypatch.setattr(rollouts, "ANSWER", 3.0)
    ran = run([job(fails="hangs", fails_at=2, once=once)], retries=9)["start-0"]
    assert ran.status == "ok"


def test_a_simulator_that_cannot_be_built_is_told():
    program = replace(PROGRAM, factory="little_robot:Unbuilt")
    (ran,) = run([job()], program=program, retries=0).values()
    assert ran.status == "error"
    assert "no meshes" in ran.error


def test_an_instruction_that_changes_resets_the_policy():
    policy = Reacher()
    (ran,) = run([job(next_at=4)], policy).values()
    assert policy.told == [(0, "open the drawer", 7), (0, "close the drawer", 7)]
    assert ran.status == "ok"


def test_a_policy_of_another_convention_is_refused():
    policy = Reacher()
    policy.convention = conventions.WIDOWX_SIMULATION
    with pytest.raises(UserError, match="convention robot differs"):
        run([job()], policy)


def test_an_interpreter_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="No such file"):
        run([job()], program=replace(PROGRAM, python="/no/such/python"))


def test_nothing_is_left_after_a_kill():
    host = foreign.Host(PROGRAM)
    host.send(("reset", "reach", job().start))
    assert isinstance(host.receive(), list)
    process, memory = host._process, host._memory
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        host.receive()
    assert host.exit_code() == -signal.SIGKILL
    host.stop(patient=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memory)
    assert not [name for name in os.listdir("/dev/shm") if "dualvla" in name]


def test_a_host_ends_when_we_do():
    host = foreign.Host(PROGRAM)
    host.send(("reset", "reach", job().start))
    assert isinstance(host.receive(), list)
    host._socket.close()
    assert host._process.wait(60) == 0
    host.stop(patient=True)


def test_the_host_needs_numpy_alone():
    code = "import sys, host; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(foreign.SIMPLER)}
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    outside = set(loaded.stdout.split()) - sys.stdlib_module_names - {"host", "__main__"}
    bare = subprocess.run(
        [sys.executable, "-c", code.replace("host", "numpy")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert outside - set(bare.stdout.split()) == set()


def test_the_original_simulator_is_refused_where_it_is_not_built(tmp_path, monkeypatch):
    monkeypatch.setenv(foreign.FOLDER, str(tmp_path))
    with pytest.raises(UserError, match=r"infra/simpler/build\.sh"):
        foreign.google_robot()


@pytest.mark.sim
@pytest.mark.slow
def test_a_google_robot_episode_of_the_original_simulator():
    from dualvla import config
    from dualvla.evaluation import google_matrix, protocol

    try:
        engine = foreign.google_robot()
    except UserError as error:
        pytest.skip(str(error))
    data = config.read_yaml(protocol.FOLDER / "google_vm.yaml")["matrix"]["pick_can"]
    start = google_matrix.expand(google_matrix.Matrix.model_validate(data))[0]
    still = Reacher()
    still.act = lambda slots, seen: [Decision(np.zeros((1, 7), np.float32)) for _ in slots]
    jobs = [Job("pick_can", start, 0, 3)]
    (ran,) = rollouts.drive(jobs, still, engine, workers=1, execute=1, retries=0)
    assert ran.status == "ok", ran.error
    assert ran.images[0].shape == (512, 640, 3)
    assert ran.environment_states[:, SUCCESS].tolist() == [0, 0, 0, 0]
    assert still.told[0][1] == "pick coke can"
