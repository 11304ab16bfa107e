import io

import pytest
import tiny_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dualvla.errors import UserError
from dualvla.evaluation.multimodal import answering
from dualvla.evaluation.multimodal.answering import Question


def png(width=40, height=30, colour=(200, 30, 30)):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "PNG")
    return stream.getvalue()


def question(prompt="what colour is the carrot?", pictures=None, limit=4, until=()):
    shown = (png(),) if pictures is None else pictures
    return Question("mmstar", 0, prompt, shown, limit, until)


@pytest.fixture(scope="module")
def model():
    return tiny_policy.policy()


def test_pictures_lie_side_by_side_in_their_order():
    whole = answering.canvas([png(20, 10, (255, 0, 0)), png(10, 30, (0, 0, 255))])
    picture = Image.open(io.BytesIO(whole))
    assert picture.size == (20 + answering.GAP + 10, 30)
    assert picture.getpixel((0, 0)) == (255, 0, 0)
    assert picture.getpixel((picture.width - 1, 0)) == (0, 0, 255)
    assert picture.getpixel((0, 29)) == (255, 255, 255)


@pytest.mark.parametrize("pictures", [(), (b"no picture", b"either"), (b"no picture",)])
def test_a_question_without_a_readable_picture_is_an_error(model, pictures):
    with pytest.raises(UserError, match="picture"):
        answering.answer(model, [question(pictures=pictures)])


def test_the_same_batch_is_answered_alike(model):
    batch = [question(), question("robot: put carrot on plate", limit=9)]
    first = answering.answer(model, batch)
    assert first == answering.answer(model, batch)
    assert [a.limit for a in first] == [4, 9]


@settings(deadline=None)
@given(words=st.integers(0, 900), limit=st.integers(1, 2000))
def test_question_and_answer_have_places(model, words, limit):
    processor = model.processor
    text = "carrot " * words
    tokens, wanted, cut = answering.prompt(processor, text, limit, 512)
    assert len(tokens) + wanted <= 512
    assert 1 <= wanted <= limit
    assert len(tokens) + cut == len(processor.head) + len(processor.tail) + len(
        processor.tokenizer.encode(text.strip(), add_special_tokens=False)
    )


def test_the_end_of_a_long_question_is_kept():
    processor = tiny_policy.processor()
    tokens, _, cut = answering.prompt(processor, "plate " * 600 + "orange", 64, 512)
    assert cut > 0
    assert processor.decode(tokens).endswith("orange")


def test_an_answer_ends_at_the_first_stop():
    assert answering.stopped("yes\n\nno ASSISTANT: a", ["ASSISTANT:", "\n\n"]) == "yes"
    assert answering.stopped(" yes ", [""]) == "yes"
