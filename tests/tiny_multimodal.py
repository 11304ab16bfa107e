"""Multimodal data without a simulator: noise pictures, one labelled carrot each."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def write(root: Path, scenes: int = 6, heldout: int = 2, size: int = 32) -> Path:
    """The layout of data/multimodal."""
    (root / "images").mkdir(parents=True)
    labels, shard, asked = [], [], {"train": [], "heldout": []}
    for number in range(scenes + heldout):
        split = "train" if number < scenes else "heldout"
        draw = np.random.default_rng(number)
        stream = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (size, size, 3), np.uint8)).save(stream, "PNG")
        name = f"{split}-{number:06d}.jpg"
        shard.append({"name": name, "bytes": stream.getvalue()})
        u, v = draw.uniform(0.2, 0.8, 2)
        place = {"image": name, "split": split, "u": u, "v": v, "x": 0.3, "y": 0.0, "z": 0.05}
        for thing, opening in (("carrot", None), ("gripper", 0.5)):
            labels.append(
                {**place, "object": thing, "yaw": 0.3, "visible": 1.0, "opening": opening}
            )
        for index, (question, answer) in enumerate(
            [
                ("what colour is the carrot?", "orange"),
                ("where is the carrot?", f"{round(100 * u)} {round(100 * v)}"),
            ]
        ):
            asked[split].append(
                {
                    "id": f"{split}-{number:06d}-{index}",
                    "image": name,
                    "scene": f"{split}-{number:06d}",
                    "kind": ["colour", "position"][index],
                    "conversations": [
                        {"from": "human", "value": f"<image>\n{question}"},
                        {"from": "gpt", "value": answer},
                    ],
                }
            )
    pd.DataFrame(shard).to_parquet(root / "images/shard-000.parquet")
    pd.DataFrame(labels).to_parquet(root / "scenes.parquet")
    for split, entries in asked.items():
        (root / f"{split}.json").write_text(json.dumps(entries))
    return root
