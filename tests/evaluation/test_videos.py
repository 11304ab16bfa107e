import dataclasses
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from dualvla.conventions import PHASES
from dualvla.evaluation import videos

SAID = "subtask: grasp the carrot ; move: down ; carrot at 34 60"


def film(steps=8, size=(96, 128)):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(steps + 1)]
    texts = [None, SAID * 9, *["put it down"] * steps][: steps + 1]
    actions = rng.normal(0, 0.02, (steps, 7)).astype(np.float32)
    actions[:, 6] = np.where(np.arange(steps) < steps // 2, 1, -1)
    return videos.Film(frames, texts, "put carrot on plate", 5.0, actions)


def shown(path):
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


def test_a_video_shows_every_frame_once(tmp_path):
    videos.write(tmp_path / "one.mp4", film())
    frames, rate = shown(tmp_path / "one.mp4")
    assert len(frames) == 9
    assert rate == 5
    assert frames[0].shape[1] == videos.WIDTH
    assert frames[1][240:].max() > 128  # the text below the picture


def test_the_same_film_has_the_same_bytes_in_another_process(tmp_path):
    videos.write(tmp_path / "one.mp4", film())
    code = "from test_videos import *; videos.write(Path(sys.argv[1]), film())"
    command = [sys.executable, "-c", code, str(tmp_path / "two.mp4")]
    subprocess.run(command, check=True, cwd=Path(__file__).parent)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_the_same_film_has_the_same_bytes_on_an_older_processor(tmp_path, monkeypatch):
    videos.write(tmp_path / "one.mp4", film())
    plain = {"x264-params": f"{videos.H264['x264-params']}:asm=0"}  # no extensions at all
    monkeypatch.setattr(videos, "H264", videos.H264 | plain)
    videos.write(tmp_path / "two.mp4", film())
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_the_writer_writes_the_same_bytes_in_the_background(tmp_path):
    films = [film(steps) for steps in range(1, 3 + videos.WAITING)]
    with videos.Writer() as writer:
        for number, one in enumerate(films):
            writer.submit(tmp_path / "beside" / f"{number}.mp4", one)
    for number, one in enumerate(films):
        videos.write(tmp_path / "here" / f"{number}.mp4", one)
        names = [tmp_path / folder / f"{number}.mp4" for folder in ("beside", "here")]
        assert names[0].read_bytes() == names[1].read_bytes()
    assert len(list((tmp_path / "beside").iterdir())) == len(films)


def test_an_error_in_the_writer_reaches_the_caller_and_leaves_no_file(tmp_path):
    broken = dataclasses.replace(film(), fps=float("nan"))
    with pytest.raises(ValueError, match="NaN"), videos.Writer() as writer:
        writer.submit(tmp_path / "x.mp4", broken)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_raised_by_a_later_submit_too(tmp_path):
    broken = dataclasses.replace(film(), fps=float("nan"))

    def fill(writer):
        for number in range(videos.WAITING + 2):
            writer.submit(tmp_path / f"{number}.mp4", broken)
        pytest.fail("no error while the writer was full")

    with pytest.raises(ValueError, match="NaN"), videos.Writer() as writer:
        fill(writer)


def test_the_cursor_runs_over_the_action_strip():
    strips = [np.asarray(picture)[-90:-10] for picture in videos._pictures(film())]
    cursors = [np.flatnonzero((strip == 255).all((0, 2))) for strip in strips]
    assert {len(found) for found in cursors} == {1}
    columns = [int(found[0]) for found in cursors]
    assert columns == sorted(set(columns))
    assert (columns[0], columns[-1]) == (videos.NAMES, videos.WIDTH - videos.MARGIN)


def test_the_strip_shows_the_gripper_open_above_and_closed_below_its_line():
    rows = np.asarray(videos._strip(film().actions, 1.0))[-videos.ROW_HEIGHT :]
    bar = (rows == videos.COLOURS[-1]).all(-1)
    half, middle = videos.ROW_HEIGHT // 2, (videos.NAMES + videos.WIDTH - videos.MARGIN) // 2
    opened, closed = bar[:, videos.NAMES : middle - 2], bar[:, middle + 2 : -videos.MARGIN - 2]
    assert opened[: half - 1].all()
    assert not opened[half:].any()
    assert closed[half - 1 : -1].all()
    assert not closed[: half - 2].any()


def test_subtasks_come_from_the_text_and_the_simulator():
    told = dataclasses.replace(
        film(2), texts=[None, SAID, SAID], phases=[PHASES.index("reach"), -1, PHASES.index("lift")]
    )
    said = [videos._subtask(told, step) for step in range(3)]
    spoken = " | says lower/grasp carrot"
    assert said == [" | does reach", spoken, f"{spoken} | does lift"]


@pytest.mark.parametrize(
    "change",
    [{"frames": []}, {"texts": ["x"]}, {"actions": np.zeros((3, 7))}, {"phases": [0]}],
    ids=lambda change: next(iter(change)),
)
def test_parts_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="frames"):
        dataclasses.replace(film(), **change)


def test_a_single_picture_is_a_film(tmp_path):
    still = film(0)
    videos.write(tmp_path / "one.mp4", still)
    assert len(shown(tmp_path / "one.mp4")[0]) == 1
