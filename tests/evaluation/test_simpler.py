import dataclasses

import numpy as np
import pandas as pd
import pytest

from dualvla import config
from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.errors import UserError
from dualvla.evaluation import judges, outcomes, protocol, simpler, statistics
from dualvla.interface import Decision
from dualvla.simulation.episodes import Trajectory

EVALUATE = config.load("params.yaml").evaluate.model_copy(
    update={"starts": ("official", "shifted"), "episodes_per_task": 3, "videos_per_task": 1}
)
TASKS = ("carrot", "stack")
SIMULATION = config.load("params.yaml").simulation


def plan(seed=0, evaluate=EVALUATE, tasks=TASKS):
    nightly = protocol.nightly(evaluate, SIMULATION.model_copy(update={"tasks": tuple(tasks)}))
    return protocol.resolve(nightly, "generated", seed, videos=evaluate.videos_per_task).planned


AT = ENVIRONMENT_STATE_NAMES.index


def trajectory(job, success=(0, 0, 1), grasped=(0, 1, 0), status="ok"):
    """What a rollout of two decisions over len(success) - 1 steps would return."""
    count = len(success) if status == "ok" else 0
    environment = np.zeros((count, len(ENVIRONMENT_STATE_NAMES)), np.float32)
    if count:
        environment[:, AT("success")], environment[:, AT("grasped")] = success, grasped
    steps = max(0, count - 1)
    actions = np.ones((steps, 7), np.float32)
    decisions = [(0, Decision(actions[:1], None, 1)), (1, Decision(actions[1:], "move: up", 3))]
    return Trajectory(
        job=job,
        status=status,
        error="" if status == "ok" else "the worker died",
        states=np.zeros((count, 7), np.float32),
        controllers=np.zeros((count, 6), np.float32),
        actions=actions,
        environment_states=environment,
        decisions=decisions if count else [],
        images=[],
        frames=[],
        decision_seconds=[0.1, 0.2] if count else [],
    )


def outcome(results):
    planned = plan()
    found = [trajectory(item.job, **results(i)) for i, item in enumerate(planned)]
    return simpler.collect(planned, found, "last_step")


def test_a_plan_is_the_same_for_every_model_and_changes_with_the_seed():
    first, again, other = (plan(seed) for seed in (0, 0, 1))
    assert len(first) == 2 * 2 * 3
    assert [item.job.seed for item in first] == [item.job.seed for item in again]
    assert {item.job.seed for item in first}.isdisjoint(item.job.seed for item in other)
    assert len({item.job.seed for item in first}) == len(first)
    assert sum(item.job.video for item in first) == len(TASKS)
    assert {item.starts for item in first if item.job.video} == {"official"}


@pytest.mark.parametrize(
    ("success", "grasped", "expected"),
    [
        ((0, 0, 1), (0, 1, 0), (True, True, True)),
        ((0, 1, 0), (0, 0, 0), (False, True, True)),
        ((0, 1, 0), (0, 1, 0), (False, True, False)),
        ((0, 0, 1), (0, 1, 1), (True, True, False)),
        ((0, 0, 0), (0, 0, 0), (False, False, False)),
        ((1, 0, 0), (0, 0, 0), (False, False, False)),
    ],
)
def test_three_modes_are_read_from_one_rollout(success, grasped, expected):
    item = plan()[0]
    states = trajectory(item.job, success, grasped).environment_states
    assert outcomes.success(states) == dict(zip(outcomes.MODES, expected, strict=True))


def test_rows_come_in_the_order_of_the_plan_whatever_the_order_of_arrival():
    planned = plan()
    found = [trajectory(item.job) for item in planned]
    order = np.random.default_rng(0).permutation(len(found))
    straight = simpler.collect(planned, found, "last_step")
    mixed = simpler.collect(planned, [found[i] for i in order], "last_step")
    pd.testing.assert_frame_equal(straight.episodes, mixed.episodes)
    pd.testing.assert_frame_equal(straight.steps, mixed.steps)
    assert straight.seconds == pytest.approx(0.3 * len(planned))


def test_a_missing_or_repeated_episode_is_a_defect():
    planned = plan()
    found = [trajectory(item.job) for item in planned]
    with pytest.raises(RuntimeError, match="came back"):
        simpler.collect(planned, found[:-1], "last_step")
    with pytest.raises(RuntimeError, match="twice"):
        simpler.collect(planned, [*found, found[0]], "last_step")


def test_crashed_episodes_are_counted_and_left_out_of_every_rate():
    def results(index):
        return {"status": "error"} if index == 0 else {"success": (0, 0, index % 2)}

    found = outcome(results)
    summary = simpler.summary(found, "last_step")
    first = {(row["starts"], row["task"]): row for row in summary["rates"]}
    assert first["official", "all"]["n"] == 5
    assert first["official", "all"]["errors"] == 1
    assert first["official", "carrot"]["n"] == 2
    assert first["shifted", "all"]["n"] == 6
    assert [row["task"] for row in summary["rates"]] == ["all", *TASKS] * 2
    assert summary["modes"]["last_step"]["n"] == 11
    assert summary["decisions"] == 22
    assert summary["tokens_per_decision"] == pytest.approx(2.0)
    assert summary["texts_per_decision"] == pytest.approx(0.5)
    assert found.episodes["last_step"].isna().sum() == 1
    for row in summary["rates"]:
        assert 0 <= row["low"] <= row["rate"] <= row["high"] <= 1


def test_steps_hold_every_state_the_action_taken_there_and_the_text_in_force():
    found = outcome(lambda index: {})
    rows = found.steps.iloc[:3]
    assert rows["step"].tolist() == [0, 1, 2]
    assert rows["text"].isna().tolist() == [True, False, False]
    assert rows["decision"].tolist() == [True, True, False]
    assert rows["wrote"].tolist() == [False, True, False]
    assert rows["action.x"].isna().tolist() == [False, False, True]
    assert set(ENVIRONMENT_STATE_NAMES) <= set(rows.columns)


def test_tables_survive_parquet_and_make_a_clip(tmp_path):
    found = outcome(lambda index: {"status": "error"} if index == 0 else {})
    for name, table in (("episodes", found.episodes), ("steps", found.steps)):
        table.to_parquet(tmp_path / name, index=False)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), table, check_dtype=False)
    steps = pd.read_parquet(tmp_path / "steps")
    group = next(rows for _, rows in steps.groupby(simpler.KEY, sort=False))
    clip = judges.clip_of(group, "carrot", "plate")
    assert clip.texts == (None, "move: up")
    assert clip.actions.shape == (2, 7)
    assert clip.environment.shape == (3, len(ENVIRONMENT_STATE_NAMES))
    assert clip.wrote.tolist() == [False, True]


def test_two_models_are_compared_on_the_same_starts_without_crashed_ones():
    better = outcome(lambda index: {"status": "error"} if index == 11 else {}).episodes
    worse = outcome(lambda index: {"success": (0, 0, index < 4)}).episodes
    rows = {(r["starts"], r["task"]): r for r in simpler.compare(better, worse, "last_step")}
    row = rows["shifted", "all"]
    assert (row["n"], row["left_out"], row["first_only"], row["both"]) == (5, 1, 5, 0)
    assert row["difference"] == pytest.approx(1.0)
    assert row["p"] == pytest.approx(2 * 0.5**5)
    assert rows["official", "carrot"]["difference"] == 0


def test_starts_that_repeat_their_outcome_add_no_certainty():
    def table(wins, repeats):
        rows = []
        for index, won in enumerate(wins):
            for repeat in range(repeats):
                row = dict.fromkeys(simpler.EPISODE_TYPES)
                again = f"#{repeat}" if repeat else ""
                row |= {"starts": "official", "task": "carrot", "start_id": f"{index}{again}"}
                rows.append(row | {"seed": 0, "status": "ok", "last_step": won})
        return pd.DataFrame(rows).astype(simpler.EPISODE_TYPES)

    def width(row):
        return row["high"] - row["low"]

    first, second = [True] * 20 + [False] * 10, [False, True] * 15
    (once, *_), (often, *_) = (simpler.rates(table(first, n), "last_step") for n in (1, 9))
    assert (once["low"], once["high"]) == statistics.wilson(20, 30)
    assert width(often) > 0.9 * width(once)
    (once, *_), (often, *_) = (
        simpler.compare(table(first, n), table(second, n), "last_step") for n in (1, 9)
    )
    assert often["n"] == 9 * once["n"]
    assert often["difference"] == pytest.approx(once["difference"])
    assert width(often) > 0.9 * width(once)


def test_models_that_ran_other_episodes_are_not_compared():
    one = outcome(lambda index: {}).episodes
    with pytest.raises(UserError, match="same episodes"):
        simpler.compare(one, one.iloc[:-1], "last_step")
    with pytest.raises(UserError, match="same episodes"):
        simpler.compare(one, one.assign(seed=one["seed"] + 1), "last_step")


def test_an_unknown_task_is_refused():
    data = protocol.load("canary").model_dump()
    data["episodes"][0]["task"] = "drawer"
    drawer = protocol.parse(data, "test")
    with pytest.raises(UserError, match="no such task"):
        protocol.resolve(drawer, "generated", 0)


@pytest.mark.sim
@pytest.mark.slow
def test_the_expert_s_real_rollout_succeeds_and_is_rated_highly():
    from dualvla.simulation import rollouts
    from dualvla.simulation.environments import TASKS as SPECS
    from dualvla.simulation.expert import Expert

    one = EVALUATE.model_copy(update={"starts": ("official",), "episodes_per_task": 1})
    planned = plan(evaluate=one, tasks=["carrot"])
    jobs = [dataclasses.replace(item.job, video=False) for item in planned]
    settings = {"assets": "generated", "image_size": 64, "workers": 1, "execute": 1, "retries": 0}
    found = simpler.collect(
        planned, rollouts.run(jobs, Expert("generated"), **settings), "last_step"
    )
    assert found.episodes["last_step"].tolist() == [True]
    spec = SPECS["carrot"]
    ratings = judges.rules(judges.clip_of(found.steps, spec.source, spec.target), False)
    assert min(ratings.action, ratings.intention) >= 9
