import av
import numpy as np
import pytest

from dualvla.evaluation import videos


def test_a_video_shows_every_frame_once_and_has_the_same_bytes_each_time(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(5)]
    texts = [None, "subtask: grasp the carrot ; move: down " * 9, "a", "b", "c"]
    for name in ("one.mp4", "two.mp4"):
        videos.write(tmp_path / name, frames, texts, "put carrot on plate", 5.0)
    with av.open(str(tmp_path / "one.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 5
    assert len(shown) == 5
    assert shown[0].shape[1] == videos.WIDTH
    assert shown[1][240:].max() > 128  # the text below the picture
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frames"):
        videos.write(tmp_path / "none.mp4", [], [], "x", 5.0)
