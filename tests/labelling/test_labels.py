import shutil

import numpy as np
import pytest
import simulated_episodes as simulated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualvla import files
from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.labelling import labels
from dualvla.labelling.session import Session, parse_episodes, speeds

on_disk = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=30)


@st.composite
def episode(draw):
    frames = draw(st.integers(1, 40))
    marks = draw(st.sets(st.integers(1, frames - 1), max_size=8)) if frames > 1 else ()
    return labels.Episode(
        episode_index=draw(st.integers(0, 9)),
        frames=frames,
        content=draw(st.sampled_from(["0" * 16, "f" * 16])),
        boundaries=tuple(sorted(marks)),
        done=draw(st.booleans()),
    )


def filled(episodes):
    found = labels.Labels()
    for one in episodes:
        found = found.put("bridge", one)
    return found


@on_disk
@given(st.lists(episode(), max_size=6))
def test_what_is_written_is_read_again(tmp_path_factory, episodes):
    path = tmp_path_factory.mktemp("labels") / "some" / "labels.json"
    labels.write(path, filled(episodes))
    assert labels.read(path) == filled(episodes)
    first = path.read_bytes()
    labels.write(path, labels.read(path))
    assert path.read_bytes() == first


@given(episode(), st.data())
def test_marking_a_frame_twice_changes_nothing(one, data):
    frame = data.draw(st.integers(1, max(1, one.frames - 1)))
    if frame < one.frames:
        once = labels.toggle(one, frame)
        assert set(once.boundaries) ^ set(one.boundaries) == {frame}
        assert labels.toggle(once, frame) == one


@pytest.mark.parametrize("frame", [-1, 0, 5])
def test_the_first_frame_and_frames_that_are_not_there_are_not_marked(frame):
    with pytest.raises(UserError, match="frames 1 to 4"):
        labels.toggle(labels.Episode(episode_index=0, frames=5, content="c"), frame)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return lerobot.open_dataset(simulated.write(tmp_path_factory.mktemp("episodes") / "data"))


def test_the_same_episodes_at_another_size_keep_their_labels(dataset, tmp_path):
    other = lerobot.open_dataset(simulated.write(tmp_path / "data", size=32))
    assert labels.blank(dataset) == labels.blank(other)


edits = st.one_of(
    st.tuples(st.just("toggle"), st.integers(0, 1), st.integers(1, 28)),
    st.tuples(st.just("done"), st.integers(0, 1), st.integers(0, 28)),
)


@on_disk
@given(st.lists(edits, max_size=12), st.integers(0, 12))
def test_undo_goes_back_through_every_change_on_disk_too(tmp_path_factory, dataset, made, back):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    session = Session(dataset, path)
    states = [labels.read(path)]
    for name, index, frame in made:
        getattr(session, name)(index, frame)
        states.append(labels.read(path))
        assert states[-1] == session.labels != states[-2]
    for _ in range(back):
        before = states.pop() if len(states) > 1 else None
        undone = session.undo()
        assert (undone is None) == (before is None)
        assert labels.read(path) == states[-1]


def test_only_done_episodes_are_labels(dataset, tmp_path):
    path = tmp_path / "labels.json"
    session = Session(dataset, path)
    session.toggle(0, 3)
    session.toggle(1, 7)
    assert labels.masks(path, dataset) == {}
    session.done(1, 7)
    (mask,) = labels.masks(path, dataset).values()
    assert np.flatnonzero(mask).tolist() == [7]
    assert len(mask) == 29
    session.done(1, 7)
    assert labels.masks(path, dataset) == {}


def test_a_file_that_changed_meanwhile_is_not_overwritten(dataset, tmp_path):
    path = tmp_path / "labels.json"
    first, second = Session(dataset, path), Session(dataset, path)
    first.toggle(0, 3)
    with pytest.raises(UserError, match="has changed"):
        second.toggle(1, 4)
    assert labels.read(path) == first.labels


def test_no_file_and_the_empty_one_of_the_project_say_the_same(tmp_path):
    from pathlib import Path

    shutil.copy(Path(__file__).parents[2] / "labels/boundaries.json", tmp_path / "labels.json")
    assert labels.read(tmp_path / "labels.json") == labels.read(tmp_path / "none.json")


GOOD = {"episode_index": 0, "frames": 29, "content": "c", "boundaries": [3], "done": True}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"boundaries": [29]}, "no frame 29"),
        ({"boundaries": [0]}, "no frame 0"),
        ({"boundaries": [4, 3]}, "do not rise"),
        ({"boundaries": [True]}, "boundaries.0"),
        ({"done": "yes"}, "done"),
        ({"bondaries": []}, "bondaries"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path, change, word):
    path = tmp_path / "labels.json"
    files.write_json(path, {"schema": 1, "dataset": "d", "episodes": [GOOD | change]})
    with pytest.raises(UserError, match=word) as error:
        labels.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "episodes": [1]}'])
def test_what_is_no_label_file_is_refused(tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"labels\.json"):
        labels.read(path)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("other", {}, "labels of data set other, not of simulation"),
        ("simulation", {"episode_index": 7}, "episode 7, which simulation does not have"),
        ("simulation", {"frames": 30}, "has 29 frames, its labels are of 30"),
        ("simulation", {}, "is not the one that was labelled"),
    ],
)
def test_labels_of_something_else_are_refused(dataset, tmp_path, name, change, word):
    path = tmp_path / "labels.json"
    files.write_json(path, {"schema": 1, "dataset": name, "episodes": [GOOD | change]})
    for use in (lambda: labels.masks(path, dataset), lambda: Session(dataset, path)):
        with pytest.raises(UserError, match=word):
            use()


def test_episodes_are_chosen_by_number(dataset, tmp_path):
    assert parse_episodes("7, 0-2,1") == [0, 1, 2, 7]
    (shown,) = Session(dataset, tmp_path / "labels.json", [1]).overview()["episodes"]
    assert shown["instruction"] == "put the spoon on the towel"
    with pytest.raises(UserError, match=r"no episode 2.*0 to 1"):
        Session(dataset, tmp_path / "labels.json", [1, 2])
    for text in ("", "a", "3-", "-3", "5-2", "1,,2", "99999999999"):
        with pytest.raises(UserError, match="--episodes"):
            parse_episodes(text)


def test_speed_is_that_of_the_step_into_a_frame():
    states = np.zeros((3, 7))
    states[2, :3] = [0.03, 0.0, 0.04]
    assert speeds(states, 5.0).tolist() == [0.0, 0.0, 0.25]
