"""Rows of the self-made data sets: a few questions of each benchmark's kinds, about drawn pictures.

What a row leaves out is empty in its data set (`samples`). Questions are easy on purpose: they are
there to be parsed, prompted and scored, and tell nothing about a model.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Row = dict[str, Any]
WHITE = (255, 255, 255)


def _picture(draw: Callable[[ImageDraw.ImageDraw], None], size: tuple[int, int]) -> Row:
    canvas = Image.new("RGB", size, WHITE)
    draw(ImageDraw.Draw(canvas))
    stream = io.BytesIO()
    canvas.save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def lines(*texts: str, size: int = 22, width: int = 360) -> Row:
    """A page with one text a line."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        font = ImageFont.load_default(size)
        for i, text in enumerate(texts):
            pen.text((16, 14 + i * (size + 12)), text, fill=(20, 20, 20), font=font)

    return _picture(draw, (width, 28 + len(texts) * (size + 12)))


def bars(values: Mapping[str, int]) -> Row:
    """A bar chart with a label under each bar and its value above it."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        font, highest = ImageFont.load_default(16), max(values.values())
        for i, (label, value) in enumerate(values.items()):
            left, top = 24 + i * 90, 190 - round(150 * value / highest)
            pen.rectangle((left, top, left + 56, 190), fill=(60, 110, 190))
            pen.text((left, 196), label, fill=(20, 20, 20), font=font)
            pen.text((left + 8, top - 22), str(value), fill=(20, 20, 20), font=font)

    return _picture(draw, (40 + 90 * len(values), 224))


def shapes(*drawn: tuple[str, str]) -> Row:
    """Coloured shapes in a row: (`circle` or `square`, colour)."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for i, (shape, colour) in enumerate(drawn):
            box = (20 + i * 100, 30, 90 + i * 100, 100)
            (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=colour)

    return _picture(draw, (20 + 100 * len(drawn), 130))


def _mmmu() -> list[Row]:
    sales = bars({"2021": 20, "2022": 35, "2023": 50})
    common = {"topic_difficulty": "Easy", "explanation": ""}
    return [
        common
        | {
            "id": "validation_Accounting_1",
            "question": "<image 1> In which year were sales highest?",
            "options": "['2021', '2022', '2023', '2024']",
            "image_1": sales,
            "img_type": "['Plots and Charts']",
            "answer": "C",
            "question_type": "multiple-choice",
            "subfield": "Financial Accounting",
        },
        common
        | {
            "id": "validation_Art_1",
            "question": "Which picture shows a circle, <image 1> or <image 2>?",
            "options": "['the first', 'the second']",
            "image_1": shapes(("square", "red")),
            "image_2": shapes(("circle", "blue")),
            "img_type": "['Drawings']",
            "answer": "B",
            "question_type": "multiple-choice",
            "subfield": "Drawing",
        },
        common
        | {
            "id": "validation_Math_1",
            "question": "<image 1> How many more were sold in 2023 than in 2021?",
            "options": "[]",
            "image_1": sales,
            "img_type": "['Plots and Charts']",
            "answer": "30",
            "question_type": "open",
            "subfield": "Statistics",
        },
    ]


def _mmvet() -> list[Row]:
    asked = [
        (lines("3x + 5 = 20"), "What is x in the equation?", "5", "ocr,math"),
        (shapes(("circle", "red"), ("square", "blue")), "What is left of the square?",
         "red circle<OR>circle", "rec,spat"),
        (lines("CLOSED", "until Monday"), "Can you buy bread here on Sunday?", "no", "ocr,know"),
    ]  # fmt: skip
    return [
        {
            "question_id": f"v1_{i}",
            "image": image,
            "question": question,
            "answer": answer,
            "image_source": "made",
            "capability": capability,
        }
        for i, (image, question, answer, capability) in enumerate(asked)
    ]


def _mmstar() -> list[Row]:
    asked = [
        ("coarse perception", "image scene and topic", shapes(("circle", "green")),
         "What does the picture show?\nOptions: A: a chart, B: a shape, C: a text, D: a map", "B"),
        ("fine-grained perception", "object counting", shapes(*[("square", "red")] * 3),
         "How many squares are there?\nOptions: A: one, B: two, C: three, D: four", "C"),
        ("math", "statistical reasoning", bars({"a": 2, "b": 6}),
         "What is the mean of the bars?\nOptions: A: 4, B: 2, C: 6, D: 8", "A"),
        ("math", "geometry", shapes(("square", "blue")),
         "How many corners has the shape?\nOptions: A: 1, B: 2, C: 3, D: 4", "D"),
    ]  # fmt: skip
    return [
        {
            "index": i,
            "question": question,
            "image": image,
            "answer": answer,
            "category": category,
            "l2_category": fine,
        }
        for i, (category, fine, image, question, answer) in enumerate(asked)
    ]


def _ocrbench() -> list[Row]:
    asked = [
        ("IIIT5K", "Regular Text Recognition", lines("PLATE", size=40),
         "what is written in the image?", ["PLATE"]),
        ("docVQA", "Doc-oriented VQA", lines("Invoice 4711", "Total 12.50"),
         "What is the total?", ["12.50", "12.5"]),
        ("HME100k", "Handwritten Mathematical Expression Recognition", lines("a + b = c"),
         "Please write out the expression of the formula in the image using LaTeX format.",
         ["a + b = c"]),
    ]  # fmt: skip
    return [
        {"dataset": source, "question_type": kind, "image": i, "question": q, "answer": a}
        for source, kind, i, q, a in asked
    ]


def _mmbench() -> list[Row]:
    asked = [
        ("What colour is the circle?", "nan", "A", ("red", "blue", "green", "black"),
         "attribute_recognition", "finegrained_perception (instance-level)",
         shapes(("circle", "red"))),
        ("Which bar is higher?", "The bars are labelled.", "B", ("left", "right", "nan", "nan"),
         "attribute_comparison", "finegrained_perception (cross-instance)",
         bars({"left": 3, "right": 9})),
        ("Where is the square?", "nan", "D", ("above", "below", "left", "right"),
         "spatial_relationship", "relation_reasoning",
         shapes(("circle", "green"), ("square", "blue"))),
    ]  # fmt: skip
    return [
        {
            "index": i,
            "question": question,
            "hint": hint,
            "answer": answer,
            **dict(zip("ABCD", options, strict=True)),
            "category": category,
            "image": image,
            "source": "made",
            "L2-category": coarse,
            "comment": "nan",
            "split": "dev",
        }
        for i, (question, hint, answer, options, category, coarse, image) in enumerate(asked)
    ]


def _textvqa() -> list[Row]:
    asked = [
        (("STOP",), "what does the sign say?", "stop"),
        (("Cafe Luna", "open 8 to 18"), "what is the name of the cafe?", "cafe luna"),
        (("Bus 42", "to Harbour"), "which bus is this?", "42"),
    ]
    return [
        {
            "image_id": f"made{i}",
            "question_id": 34600 + i,
            "question": question,
            "question_tokens": question.rstrip("?").split(),
            "image": lines(*texts, size=32),
            "image_width": 360,
            "image_height": 28 + 44 * len(texts),
            "answers": [answer] * 10,
            "image_classes": ["Sign"],
            "set_name": "val",
            "ocr_tokens": " ".join(texts).split(),
        }
        for i, (texts, question, answer) in enumerate(asked)
    ]


def _infovqa() -> list[Row]:
    asked = [
        (bars({"cars": 12, "bikes": 30}), "How many bikes were counted?", ["30"]),
        (bars({"tea": 40, "coffee": 60}), "Which drink is preferred?", ["coffee"]),
        (bars({"north": 5, "south": 7, "west": 9}), "What is the total of all regions?", ["21"]),
    ]
    return [
        {
            "questionId": str(70000 + i),
            "question": question,
            "answers": answers,
            "answer_type": ["Image span"],
            "image": image,
            "operation/reasoning": [],
            "data_split": "val",
        }
        for i, (image, question, answers) in enumerate(asked)
    ]


def _docvqa() -> list[Row]:
    letter = ("Harbour Tools Ltd.", "To: Ms. Brown", "Date: 4 May 1998", "Pages: 3")
    asked = [
        ("Who is the letter to?", ["Ms. Brown", "Brown"], "handwritten"),
        ("What is the date of the letter?", ["4 May 1998"], "form"),
        ("How many pages are there?", ["3"], "form"),
    ]
    return [
        {
            "questionId": str(49150 + i),
            "question": question,
            "question_types": [kind],
            "image": lines(*letter),
            "docId": 14465,
            "ucsf_document_id": "made0001",
            "ucsf_document_page_no": "1",
            "answers": answers,
            "data_split": "val",
        }
        for i, (question, answers, kind) in enumerate(asked)
    ]


ROWS: dict[str, Callable[[], list[Row]]] = {
    "mmmu": _mmmu,
    "mmvet": _mmvet,
    "mmstar": _mmstar,
    "ocrbench": _ocrbench,
    "mmbench": _mmbench,
    "textvqa": _textvqa,
    "infovqa": _infovqa,
    "docvqa": _docvqa,
}
