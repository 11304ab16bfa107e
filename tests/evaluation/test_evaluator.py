import fcntl
import os
import py_compile
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from evaluations import resolved, run

from dualvla import files
from dualvla.conventions import WIDOWX_SIMULATION
from dualvla.errors import UserError
from dualvla.evaluation import evaluator, ledger, opened, simpler
from dualvla.interface import Decision
from dualvla.simulation.random_policy import RandomPolicy

pytestmark = [pytest.mark.sim, pytest.mark.slow]

TABLES = ("results.parquet", "steps.parquet", "summary.json", "protocol.yaml", "gallery.html")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Random actions, one worker, four episodes, two films."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run("random", out)
    return out


def contents(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): files.sha256(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_a_result_is_whole(undisturbed):
    names = set(contents(undisturbed))
    films = {f"videos/official-{task}-official-00.mp4" for task in ("carrot", "stack")}
    assert names == {*TABLES, *films}
    summary = files.read_json(undisturbed / "summary.json")
    assert summary["protocol"]["hash"] == resolved().hash
    assert (summary["assets"], summary["policy"]["kind"]) == ("generated", "random")
    table = pd.read_parquet(undisturbed / "results.parquet")
    assert table["status"].tolist() == ["ok"] * 4
    assert table["failure"].notna().all()
    assert not (undisturbed.parent / ".out.partial").exists()
    timing = files.read_json(undisturbed.parent / "timing.json")
    assert timing["decisions"] == 4 * 12
    assert timing["seconds"] > 0


def test_code_is_what_a_person_wrote_and_not_pythons_caches_of_it(tmp_path):
    module = tmp_path / "inner" / "module.py"
    module.parent.mkdir()
    module.write_text("x = 1\n")
    before = evaluator.code(tmp_path)
    assert Path(py_compile.compile(str(module))).is_file()
    assert evaluator.code(tmp_path) == before
    module.write_text("x = 2\n")
    assert evaluator.code(tmp_path) != before


def test_two_workers_write_the_same_bytes(undisturbed, tmp_path):
    run("random", tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(undisturbed)


class Killing(RandomPolicy):
    """Kills a simulation process at some decision."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def act(self, slots, observations):
        self.at -= 1
        if self.at == 0:
            children = psutil.Process().children()
            workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
            workers[0].send_signal(signal.SIGKILL)
        return super().act(slots, observations)


def test_a_killed_worker_changes_no_byte(undisturbed, tmp_path):
    given = opened.Opened(Killing(20), "random", "random", "never")
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 2)
    evaluator.evaluate(given, resolved(), tmp_path / "out", work)
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_kill_9_of_the_main_process_and_another_start_change_no_byte(undisturbed, tmp_path):
    out = tmp_path / "out"
    book = tmp_path / ".out.partial" / "ledger.sqlite"
    command = [sys.executable, "-m", "evaluations", "random", str(out), "1", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    family = []
    while child.poll() is None and _done(book) < 2:
        time.sleep(0.02)
    assert child.poll() is None
    family = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.wait()
    assert not psutil.wait_procs(family, timeout=60)[1]  # workers end with it
    before = _done(book)
    assert 2 <= before < 4
    assert not out.exists()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert contents(out) == contents(undisturbed)


def _done(book: Path) -> int:
    if not book.is_file():
        return 0
    with ledger.opened(book) as found:
        return len(found.keys())


def test_a_film_that_was_not_finished_is_made_again(undisturbed, tmp_path):
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    with pytest.raises(RuntimeError, match="stop"):
        _stopping(out)
    film = partial / "videos" / "official-carrot-official-00.mp4"
    film.unlink()
    run("random", out)
    assert contents(out) == contents(undisturbed)


def _stopping(out):
    """Evaluate until the first episode of the second task."""

    class Stopping(RandomPolicy):
        def reset(self, slot, instruction, seed):
            if "stack" in instruction:
                raise RuntimeError("stop")
            super().reset(slot, instruction, seed)

    given = opened.Opened(Stopping(), "random", "random", "never")
    work = evaluator.Work(out.with_name(f".{out.name}.partial"), out.with_name("timing.json"), 1)
    evaluator.evaluate(given, resolved(), out, work)


def test_a_second_process_at_the_same_evaluation_is_refused(tmp_path):
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 1)
    work.partial.mkdir()
    given = opened.Opened(RandomPolicy(), "random", "random", "never")
    with (work.partial / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process runs this evaluation"):
            evaluator.evaluate(given, resolved(), tmp_path / "out", work)


class Answering(RandomPolicy):
    """Answers one thing, whatever it is asked."""

    def __init__(self, actions):
        super().__init__()
        self.actions = actions

    def act(self, slots, observations):
        return [Decision(self.actions) for _ in slots]


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.full((1, 7), np.nan, np.float32), "not finite"),
        (np.zeros((1, 6), np.float32), r"shape \(1, 6\)"),
        (np.full((1, 7), 0.9, np.float32), "x of 0.9 is out of range"),
        (np.zeros((8, 7), np.float32), "the gripper stayed within 1 cm"),
    ],
)
def test_a_broken_policy_stops_at_the_canary(actions, said, tmp_path):
    given = opened.Opened(Answering(actions), "random", "random", "never")
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 1)
    plan = resolved(episodes=4, tasks=("carrot",), videos=0)
    with pytest.raises(UserError, match=f"canary: .*{said}"):
        evaluator.evaluate(given, plan, tmp_path / "out", work)
    assert not (tmp_path / "out").exists()
    assert _done(tmp_path / "partial" / "ledger.sqlite") == 0


def test_a_broken_policy_stops_at_the_canary_whenever_it_is_started(tmp_path):
    given = opened.Opened(Answering(np.zeros((8, 7), np.float32)), "random", "random", "never")
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 1)
    plan = resolved(episodes=3, tasks=("carrot",), videos=0)
    for _ in range(2):
        with pytest.raises(UserError, match="canary"):
            evaluator.evaluate(given, plan, tmp_path / "out", work)


def test_a_canary_that_was_run_but_not_looked_at_is_looked_at(tmp_path):
    plan = resolved(episodes=3, tasks=("carrot",), videos=0)
    given = opened.Opened(Answering(np.zeros((8, 7), np.float32)), "random", "random", "never")
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 1)

    def die(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "_require_alive", die)
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(given, plan, tmp_path / "out", work)
    assert _done(tmp_path / "partial" / "ledger.sqlite") == 2
    with pytest.raises(UserError, match="canary"):
        evaluator.evaluate(given, plan, tmp_path / "out", work)


def test_a_later_bad_answer_is_an_error_of_its_episode_and_no_failure(tmp_path):
    class Later(RandomPolicy):
        def act(self, slots, observations):
            given = super().act(slots, observations)
            bad = np.full((1, 7), np.nan, np.float32)
            return [Decision(bad) if self.episode == 3 else one for one in given]

        episode = 0

        def reset(self, slot, instruction, seed):
            self.episode += 1
            super().reset(slot, instruction, seed)

    given = opened.Opened(Later(), "random", "random", "never")
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 1)
    plan = resolved(episodes=4, tasks=("carrot",), videos=0)
    summary = evaluator.evaluate(given, plan, tmp_path / "out", work)
    table = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert table["status"].tolist() == ["ok", "ok", "error", "ok"]
    assert table["error"].dropna().tolist() == ["the policy answered actions that are not finite"]
    assert (summary["rates"][0]["n"], summary["rates"][0]["errors"]) == (3, 1)


def test_another_convention_is_refused_before_the_first_episode(tmp_path):
    policy = RandomPolicy()
    policy.convention = replace(WIDOWX_SIMULATION, rotation="axis-angle")
    given = opened.Opened(policy, "random", "random", "never")
    work = evaluator.Work(tmp_path / "partial", tmp_path / "timing.json", 1)
    with pytest.raises(UserError, match="convention rotation differs"):
        evaluator.evaluate(given, resolved(), tmp_path / "out", work)


def test_half_of_another_evaluation_is_not_gone_on_with(undisturbed, tmp_path):
    with pytest.raises(RuntimeError, match="stop"):
        _stopping(tmp_path / "out")
    plan = resolved(steps=8)
    run("random", tmp_path / "out", plan=plan)
    table = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert table["steps"].tolist() == [8] * 4
    assert table[simpler.KEY].equals(pd.read_parquet(undisturbed / "results.parquet")[simpler.KEY])
