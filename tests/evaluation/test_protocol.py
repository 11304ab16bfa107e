import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dualvla import config
from dualvla.errors import UserError
from dualvla.evaluation import protocol

PARAMS = config.load("params.yaml")


def changed(name="canary", **changes):
    return protocol.parse(protocol.load(name).model_dump() | changes, "test")


def test_the_committed_suites_hold_the_published_numbers_of_episodes():
    counts = {
        name: len(protocol.resolve(protocol.load(name), "generated", 0).planned)
        for name in ("widowx", "widowx_instruct", "canary")
    }
    assert counts == {"widowx": 3 * 24 + 64, "widowx_instruct": 2 * 4 * 24, "canary": 8}


def test_the_google_suites_and_widowx_hold_the_published_2952_episodes():
    counts = {
        name: len(protocol.resolve(protocol.load(name), "official", 0).planned)
        for name in ("google_vm", "google_va")
    }
    assert counts == {"google_vm": 864, "google_va": 1992}
    assert sum(counts.values()) + 4 * 24 == 2952


def test_a_google_suite_is_refused_on_other_assets_and_without_its_engine():
    with pytest.raises(UserError, match="no generated assets"):
        protocol.resolve(protocol.load("google_vm"), "generated", 0)
    with pytest.raises(UserError, match="go together"):
        changed("google_vm", engine="simulation")


def test_a_suite_runs_as_published_judged_at_the_last_step():
    widowx = protocol.load("widowx")
    assert (widowx.success_mode, widowx.execute, widowx.control_hz) == ("last_step", 1, 5)
    assert (widowx.ensemble.window, widowx.ensemble.alpha) == (7, 0.1)
    steps = {block.task: block.max_steps for block in widowx.episodes}
    assert steps == {"carrot": 60, "spoon": 60, "stack": 60, "eggplant": 120}


def test_every_key_and_seed_is_its_own_also_with_repeats():
    planned = protocol.resolve(changed(repeats=3), "generated", 0).planned
    assert len(planned) == 24
    assert len({item.key for item in planned}) == len({item.job.seed for item in planned}) == 24


def test_repeats_add_episodes_and_change_none():
    once = protocol.resolve(changed(repeats=1), "generated", 4).planned
    twice = protocol.resolve(changed(repeats=2), "generated", 4).planned
    seeds = {item.key: item.job.seed for item in twice}
    assert all(seeds[item.key] == item.job.seed for item in once)


@given(st.integers(0, 2**31 - 1))
def test_the_hash_is_a_function_of_what_outcomes_depend_on(seed):
    one = protocol.resolve(changed(), "generated", seed)
    same = protocol.resolve(changed(), "generated", seed, videos=2)
    others = [
        protocol.resolve(changed(), "official", seed),
        protocol.resolve(changed(), "generated", seed + 1),
        protocol.resolve(changed(), "generated", seed, limit=1),
        protocol.resolve(changed(ensemble=None), "generated", seed),
        protocol.resolve(changed(success_mode="any_step"), "generated", seed),
    ]
    assert one.hash == same.hash
    assert len({one.hash, *(other.hash for other in others)}) == 6


def test_the_resolved_file_says_its_hash_and_lists_every_episode():
    resolved = protocol.resolve(changed(), "generated", 0, tasks=["stack"])
    said = yaml.safe_load(resolved.to_yaml())
    assert said["hash"] == resolved.hash
    assert [row["start_id"] for row in said["episodes"]] == ["official-00", "official-01"]
    assert said["convention"]["gripper"] == resolved.convention.gripper


def test_the_first_two_of_each_task_run_first_and_films_are_of_the_first_set():
    nightly = protocol.nightly(
        PARAMS.evaluate.model_copy(update={"starts": ("official", "shifted")}), PARAMS.simulation
    )
    planned = protocol.resolve(nightly, "generated", 0, videos=1).planned
    assert sum(item.job.first for item in planned) == 2 * 4
    assert {item.starts for item in planned if item.job.video} == {"official"}
    assert sum(item.job.video for item in planned) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"success_mode": "sometimes"}, "success_mode"),
        ({"speed": 3}, "speed"),
        ({"episodes": []}, "episodes"),
        ({"execute": 4}, "an ensemble needs execute: 1"),
        ({"camera": {"width": 640}}, r"camera\.height"),
    ],
)
def test_a_bad_value_names_its_key(changes, said):
    with pytest.raises(UserError, match=said):
        changed(**changes)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match=r"no such suite: widowy.*canary"):
        protocol.load("widowy")
    block = {"task": "carrot", "starts": "sideways", "max_steps": 60}
    with pytest.raises(UserError, match="no such set of starts: sideways"):
        protocol.resolve(changed(episodes=[block]), "generated", 0)
    with pytest.raises(UserError, match="no task drawer"):
        protocol.resolve(changed(), "generated", 0, tasks=["drawer"])


def test_an_episode_listed_twice_is_refused():
    block = {"task": "carrot", "starts": "official", "max_steps": 60}
    with pytest.raises(UserError, match="official carrot official-00 is listed twice"):
        protocol.resolve(changed(episodes=[block, block]), "generated", 0)


def test_another_control_rate_than_the_robot_s_is_refused():
    with pytest.raises(UserError, match="control_hz is 3, the robot's is 5"):
        protocol.resolve(changed(control_hz=3), "generated", 0)


def test_a_file_that_takes_the_name_of_a_committed_suite_is_refused_unless_it_is_the_same(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(protocol.load("widowx").model_dump(mode="json")))
    assert protocol.load(str(path)) == protocol.load("widowx")
    other = protocol.load("widowx").model_dump(mode="json") | {"success_mode": "any_step"}
    path.write_text(yaml.safe_dump(other))
    with pytest.raises(UserError, match="named widowx, as a committed protocol that it differs"):
        protocol.load(str(path))
