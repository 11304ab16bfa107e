"""Visual questions with exact short answers, generated from the labels of a rendered scene.

Questions are templates over labels, not a language model's: every answer is right, and held-out
accuracy is exact match with no judge. What they lack is variety of wording.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dualvla.data.questions import KINDS, Question
from dualvla.data.views import View
from dualvla.simulation.scenes import Scene


def questions(scene: Scene, count: int, rng: np.random.Generator) -> list[Question]:
    """Up to `count` different questions about a scene, of as many kinds as it allows."""
    view = View(scene)
    asked: dict[str, Question] = {}
    for _ in range(6):
        names, weights = list(KINDS), np.array([KINDS[kind][0] for kind in KINDS])
        order = rng.choice(len(names), size=len(names), replace=False, p=weights / weights.sum())
        for position in order:
            question = KINDS[names[position]][1](view, rng)
            if question is not None:
                asked.setdefault(question.text, question)
            if len(asked) == count:
                return list(asked.values())
    return list(asked.values())


def conversations(scene: Scene, count: int, seed: int) -> list[dict[str, Any]]:
    """A scene's questions in LLaVA's form; a function of the scene and the seed only."""
    name = scene.name.removesuffix(".jpg")
    rng = np.random.default_rng([seed, int(scene.split == "heldout"), scene.index, 1])
    return [
        {
            "id": f"{name}-{number}",
            "image": scene.name,
            "scene": name,
            "kind": question.kind,
            "conversations": [
                {"from": "human", "value": f"<image>\n{question.text}"},
                {"from": "gpt", "value": question.answer},
            ],
        }
        for number, question in enumerate(questions(scene, count, rng))
    ]


def label_rows(scene: Scene) -> Iterator[dict[str, Any]]:
    """Rows of scenes.parquet; `opening` only in the gripper's."""
    for label in scene.labels:
        opening = scene.opening if label.object == "gripper" else None
        yield {"image": scene.name, "split": scene.split, **vars(label), "opening": opening}
