"""A picture of one episode's pruning: both scores, their thresholds, the frames that keep text.

For people only; nothing reads it. Drawn without a display and without time stamps, so that the same
verdicts give the same bytes.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

THUMBNAILS = 10


def draw(path: Path, rows: pd.DataFrame, images: Sequence[bytes], threshold: float) -> None:
    """Draw the timeline of one episode as PNG.

    Args:
        path: file to write.
        rows: verdicts of one episode (prune.COLUMNS), in order of frames.
        images: its encoded frames, as many as rows.
        threshold: of the scene scores.
    """
    frames = rows["frame_index"].to_numpy()
    kept = frames[rows["keep"].to_numpy(bool)]
    shown = kept[np.unique(np.linspace(0, len(kept) - 1, THUMBNAILS).round().astype(int))]
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, len(shown), height_ratios=(1.2, 1.2, 1))
    layers = (
        ("scene", threshold, "scene change"),
        ("action", 1.0, "motion change"),
    )
    for row, (layer, limit, label) in enumerate(layers):
        axis = figure.add_subplot(grid[row, :])
        score, marked = rows[f"{layer}_score"].to_numpy(), rows[layer].to_numpy(bool)
        axis.vlines(kept, 0, score.max() * 1.05, color="0.85", linewidth=5, label="text kept")
        axis.plot(frames, score, color="C0", label=label)
        axis.plot(frames[marked], score[marked], "o", color="C3", label="event")
        axis.axhline(limit, color="0.4", linestyle="--", linewidth=1, label="threshold")
        top = (max(float(score.max()), limit) or 1.0) * 1.4  # room for the legend
        axis.set(xlim=(-0.5, len(rows) - 0.5), ylim=(0, top), ylabel=label)
        axis.legend(loc="upper right", fontsize=8, ncols=4)
    axis.set_xlabel("frame")
    for column, frame in enumerate(shown):
        axis = figure.add_subplot(grid[2, column])
        axis.imshow(np.asarray(Image.open(io.BytesIO(images[frame])).convert("RGB")))
        axis.set_title(f"frame {frame}", fontsize=8)
        axis.axis("off")
    first = rows.iloc[0]
    share = f"{len(kept)} of {len(rows)} frames keep their text"
    figure.suptitle(f"{first['task']}, episode {first['episode_index']}: {share}", fontsize=11)
    figure.savefig(path, format="png", dpi=80, metadata={"Software": None})
