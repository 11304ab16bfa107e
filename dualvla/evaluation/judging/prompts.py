"""What the llm judge is told: the rubric, examples, and one case as text and pictures.

A case is described by what happened and never by who did it. Commands are given for every step,
because eight pictures do not show whether an arm trembled between them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualvla.evaluation.judges import Clip
from dualvla.evaluation.judging import answers, frames, rubric
from dualvla.evaluation.judging.cases import Case

Part = dict[str, Any]

NO_TEXT = "(the model wrote no text)"


def describe(case: Case, speaks: bool) -> str:
    """Command, success, texts and motion of a case, as plain text."""
    holds = "holds" if case.success else "does not hold"
    parts = [f"Command: {case.instruction}", f"The simulator's success rule {holds}."]
    if speaks:
        parts.append("Texts, by the step at which each came into force:\n" + texts(case.clip))
    motion = (
        "Commands, by step: forward, left, up in millimetres | turn to the left in degrees | "
        "gripper"
    )
    parts.append(f"{motion}\n{_motion(case.clip)}")
    return "\n\n".join(parts)


def texts(clip: Clip) -> str:
    """A line for each text that came into force."""
    before, lines = None, []
    for step, text in enumerate(clip.texts):
        if text is not None and text != before:
            lines.append(f"step {step}: {' '.join(text.split())}")
        before = text if text is not None else before
    return "\n".join(lines) or NO_TEXT


def pictures(steps: Sequence[int], encoded: Sequence[bytes]) -> list[Part]:
    """Each picture after the step it was taken at."""
    parts: list[Part] = []
    for step, picture in zip(steps, encoded, strict=True):
        parts.append(_text(f"Step {step}:"))
        parts.append({"type": "image_url", "image_url": {"url": frames.data_uri(picture)}})
    return parts


def request(
    kind: type[answers.Acting],
    examples: Sequence[tuple[list[Part], str]],
    case: list[Part],
) -> Mapping[str, Any]:
    """A chat request without model and seed.

    Args:
        kind: of answer wanted.
        examples: parts of a rated trajectory, and its answer as JSON.
        case: parts of the trajectory to rate.
    """
    messages: list[Part] = [{"role": "system", "content": rubric.current().text}]
    for parts, answer in examples:
        messages.append({"role": "user", "content": parts})
        messages.append({"role": "assistant", "content": answer})
    messages.append({"role": "user", "content": case})
    return {"messages": messages, "response_format": answers.schema(kind)}


def shown(description: str, steps: Sequence[int], encoded: Sequence[bytes]) -> list[Part]:
    """A trajectory as the parts of one message."""
    return [_text(description), *pictures(steps, encoded)]


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _motion(clip: Clip) -> str:
    lines = []
    for step, action in enumerate(clip.actions):
        x, y, z = (int(value) for value in np.round(1000 * action[:3]))
        turn, gripper = int(np.round(np.degrees(action[5]))), "open" if action[6] > 0 else "close"
        lines.append(f"{step}: {x:+d} {y:+d} {z:+d} | {turn:+d} | {gripper}")
    return "\n".join(lines)
