import io

import numpy as np
from PIL import Image

from dualvla import config
from dualvla.pruning import prune, scenes, timeline


def test_a_timeline_is_a_picture_with_the_same_bytes_each_time(tmp_path):
    params = config.load("params.yaml").prune
    rng = np.random.default_rng(0)
    states, layer = rng.normal(size=(20, 7)), scenes.change_points(rng.normal(size=(20, 4)), params)
    arrays = {"states": states, "scene_score": layer.scores, "scene": layer.events}
    rows = prune.verdicts("d", 0, "carrot", **arrays, params=params)
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(stream, "PNG")
    for name in ("a.png", "b.png"):
        timeline.draw(tmp_path / name, rows, [stream.getvalue()] * 20, layer.threshold)
    assert Image.open(tmp_path / "a.png").width > 400
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
