"""Answers of a checkpoint to a benchmark's questions.

The policy looks at one picture. A question with several gets them side by side on one canvas, which
costs detail and keeps their order. Questions here are longer than in training and are not cut at
its length but at the decoder's: then the front goes, because options and instructions stand at the
end, and how many tokens went is kept with the answer.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, UnidentifiedImageError

from dualvla.errors import UserError
from dualvla.models import generation, inference
from dualvla.models.policy import VlaPolicy
from dualvla.models.processing import IMAGE, Processor

NEW_TOKENS = 128  # of an answer whose task names no limit
GAP = 8  # pixels between pictures


@dataclass(frozen=True)
class Question:
    """One request of a benchmark."""

    task: str
    row: int
    prompt: str
    pictures: tuple[bytes, ...]  # PNG
    limit: int | None  # tokens of the answer
    until: tuple[str, ...]  # where an answer ends


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and what it could not read or write."""

    text: str
    limit: int  # tokens it could write
    cut: int  # tokens of the question that did not fit


def canvas(pictures: Sequence[bytes]) -> bytes:
    """One picture, PNG: the only one, or all side by side, their tops aligned.

    Raises:
        UserError: none, or bytes that are no picture.
    """
    if not pictures:
        raise UserError("a question without a picture", fix="leave its benchmark out of --tasks")
    if len(pictures) == 1:
        return pictures[0]
    try:
        opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures]
    except (UnidentifiedImageError, OSError) as error:
        raise UserError("a picture of a question cannot be decoded") from error
    width = sum(p.width for p in opened) + GAP * (len(opened) - 1)
    whole = Image.new("RGB", (width, max(p.height for p in opened)), (255, 255, 255))
    left = 0
    for picture in opened:
        whole.paste(picture, (left, 0))
        left += picture.width + GAP
    stream = io.BytesIO()
    whole.save(stream, "PNG")
    return stream.getvalue()


def places(model: VlaPolicy) -> int:
    """Tokens that the decoder has places for."""
    config = model.vlm.config
    return int(getattr(config, "text_config", config).max_position_embeddings)


def prompt(
    processor: Processor, text: str, limit: int | None, room: int
) -> tuple[list[int], int, int]:
    """Tokens of a question, how many the answer may have, and how many of the question were cut.

    Half of the places stay for the answer where both do not fit.

    Args:
        processor: tokens.
        text: of the question.
        limit: tokens wanted for the answer.
        room: places of the decoder.
    """
    named = text.replace(IMAGE, " ").replace(processor.image_token, " ").strip()
    words = processor.tokenizer.encode(named, add_special_tokens=False)
    free = room - len(processor.head) - len(processor.tail)
    wanted = min(limit or NEW_TOKENS, max(free // 2, free - len(words)))
    kept = words[max(0, len(words) - (free - wanted)) :]
    tokens = [*processor.head, *kept, *processor.tail]
    return tokens, wanted, len(words) - len(kept)


@torch.inference_mode()
def answer(model: VlaPolicy, questions: Sequence[Question]) -> list[Answer]:
    """Greedy answers to one batch.

    Raises:
        UserError: a question without a picture, or with a damaged one.
    """
    processor, room = model.processor, places(model)
    asked = [prompt(processor, q.prompt, q.limit, room) for q in questions]
    encoded = inference.encode(model, [canvas(q.pictures) for q in questions])
    prefix = generation.start(model.vlm, processor, encoded, [tokens for tokens, _, _ in asked])
    active = torch.ones(len(questions), dtype=torch.bool, device=encoded.device)
    # A padded row counts from its own first token, so that no row runs out of places early.
    most = max(limit for _, limit, _ in asked)
    written = generation.greedy(model.vlm, prefix, processor.eos_id, active, most)
    return [
        Answer(stopped(processor.decode(tokens[:limit]), question.until), limit, cut)
        for question, tokens, (_, limit, cut) in zip(questions, written, asked, strict=True)
    ]


def stopped(text: str, until: Sequence[str]) -> str:
    """A text up to the first of the strings that end it."""
    for end in until:
        text = text.split(end, maxsplit=1)[0] if end else text
    return text.strip()
