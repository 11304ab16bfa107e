from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from dualvla import config
from dualvla.evaluation import google_matrix

# SimplerEnv's own totals (arXiv 2405.05941 and its scripts); with 96 WidowX episodes, 2,952.
PUBLISHED = {
    "google_vm": {"pick_can": 300, "move_near": 240, "drawer": 216, "put_in_drawer": 108},
    "google_va": {"pick_can": 825, "move_near": 600, "drawer": 378, "put_in_drawer": 189},
}


def matrices(suite):
    import dualvla.evaluation

    folder = next(iter(dualvla.evaluation.__path__))
    data = config.read_yaml(f"{folder}/protocols/{suite}.yaml")
    return data, {
        task: google_matrix.Matrix.model_validate(matrix) for task, matrix in data["matrix"].items()
    }


def expanded(suite):
    return {task: google_matrix.expand(matrix) for task, matrix in matrices(suite)[1].items()}


@pytest.mark.parametrize("suite", PUBLISHED)
def test_a_task_has_as_many_episodes_as_published(suite):
    assert {task: len(episodes) for task, episodes in expanded(suite).items()} == PUBLISHED[suite]


def test_both_suites_and_widowx_are_the_published_2952():
    google = sum(len(episodes) for suite in PUBLISHED for episodes in expanded(suite).values())
    assert google + 4 * 24 == 2952


@pytest.mark.parametrize("suite", PUBLISHED)
def test_no_episode_comes_twice(suite):
    for episodes in expanded(suite).values():
        assert len({episode.id for episode in episodes}) == len(episodes)
        plain = [{**episode.to_json(), "id": "", "variant": ""} for episode in episodes]
        assert max(Counter(map(repr, plain)).values()) == 1


@pytest.mark.parametrize("suite", PUBLISHED)
def test_each_block_names_a_matrix_and_lasts_as_long_as_published(suite):
    data, known = matrices(suite)
    steps = {block["task"]: block["max_steps"] for block in data["episodes"]}
    assert steps == {"pick_can": 80, "move_near": 80, "drawer": 113, "put_in_drawer": 200}
    assert steps.keys() == known.keys()
    assert data["control_hz"] == 3


def test_variants_of_the_can_are_balanced():
    episodes = expanded("google_va")["pick_can"]
    variants = Counter(episode.variant["variant"] for episode in episodes)
    assert set(variants.values()) == {75}
    assert len(variants) == 11
    assert Counter(e.variant["can"] for e in episodes) == dict.fromkeys(
        ("horizontal", "standing", "vertical"), 275
    )


def test_the_can_lies_on_the_published_grid_and_the_robot_faces_it():
    episodes = expanded("google_vm")["pick_can"][:25]
    xs = sorted({round(episode.object_xy[0], 4) for episode in episodes})
    ys = sorted({round(episode.object_xy[1], 4) for episode in episodes})
    assert xs == [-0.35, -0.2925, -0.235, -0.1775, -0.12]
    assert ys == [-0.02, 0.09, 0.2, 0.31, 0.42]
    assert {episode.robot_xy for episode in episodes} == {(0.35, 0.2)}
    assert episodes[0].robot_quaternion == (0, 0, 0, 1)


def test_a_robot_yaw_is_a_turn_before_facing_the_table():
    # euler2quat(0, 0, -0.09) times wxyz (0, 0, 0, 1).
    episode = expanded("google_vm")["move_near"][0]
    np.testing.assert_allclose(
        episode.robot_quaternion, [np.sin(0.045), 0, 0, np.cos(0.045)], atol=1e-12
    )
    assert (episode.arrangement, episode.object_xy) == (0, None)


def test_each_place_of_a_drawer_has_its_own_photo():
    episodes = expanded("google_vm")["drawer"]
    photos = {
        (episode.variant["place"], episode.robot_xy, episode.build["rgb_overlay_path"])
        for episode in episodes
    }
    assert len(photos) == 9
    for place, _, photo in photos:
        assert photo == f"real_inpainting/open_drawer_{place}.png"


def test_variant_aggregation_draws_no_photo():
    for episodes in expanded("google_va").values():
        assert not any("rgb_overlay_path" in episode.build for episode in episodes)


def test_an_option_overrides_what_the_task_says():
    matrix = google_matrix.Matrix.model_validate(
        {
            "env": "One-v0",
            "build": {"scene": "a", "light": 1},
            "robot": {"x": [0, 0, 1], "y": [0, 1, 2]},
            "objects": {"arrangements": 2},
            "axes": {"axis": {"as_is": {}, "other": {"env": "Two-v0", "build": {"scene": "b"}}}},
        }
    )
    episodes = google_matrix.expand(matrix)
    assert [episode.env for episode in episodes] == ["One-v0"] * 4 + ["Two-v0"] * 4
    assert episodes[4].build["scene"] == "b"
    assert episodes[4].build["light"] == 1
    assert [episode.id for episode in episodes[:4]] == [f"as_is-{i:02d}" for i in range(4)]
    assert [episode.robot_xy[1] for episode in episodes[:4]] == [0, 0, 1, 1]


@pytest.mark.parametrize("missing", ["env", "robot", "objects"])
def test_an_incomplete_combination_is_named(missing):
    given = {
        "env": "One-v0",
        "robot": {"x": [0, 0, 1], "y": [0, 0, 1]},
        "objects": {"arrangements": 1},
        "axes": {"axis": {"only": {}}},
    }
    del given[missing]
    with pytest.raises(ValueError, match=f"only: no {missing}"):
        google_matrix.expand(google_matrix.Matrix.model_validate(given))


@pytest.mark.parametrize(
    "objects", [{}, {"x": [0, 0, 1]}, {"x": [0, 0, 1], "y": [0, 0, 1], "arrangements": 2}]
)
def test_objects_are_placed_in_one_way(objects):
    with pytest.raises(ValidationError, match="either x and y, or arrangements"):
        google_matrix.Objects.model_validate(objects)


def test_a_range_without_values_is_refused():
    with pytest.raises(ValidationError):
        google_matrix.Robot.model_validate({"x": [0, 1, 0], "y": [0, 0, 1]})
