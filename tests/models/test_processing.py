import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import TEXTS, processor

from dualvla.errors import UserError
from dualvla.models.processing import Processor, train_tokenizer

PROCESSOR = processor()


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=20))
def test_any_text_survives_up_to_case_and_spacing(text):
    assert PROCESSOR.decode(PROCESSOR.encode(text)) == text.lower().strip()


def test_tokenizer_does_not_depend_on_the_order_of_texts():
    one, two = train_tokenizer(TEXTS, 320), train_tokenizer(list(reversed(TEXTS)), 320)
    assert one.get_vocab() == two.get_vocab()


def test_only_answers_are_labelled_and_padding_is_on_the_left():
    prompts = [PROCESSOR.robot_prompt("put carrot on plate"), PROCESSOR.robot_prompt("put")]
    answers = [PROCESSOR.reasoning(None), PROCESSOR.reasoning("move down")]
    batch = PROCESSOR.pad(prompts, answers)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        size = len(prompt) + len(answer)
        assert (
            batch.attention_mask[row].tolist()
            == [0] * (batch.input_ids.shape[1] - size) + [1] * size
        )
        assert batch.labels[row][batch.labels[row] != -100].tolist() == answer
        assert batch.input_ids[row, -len(answer) :].tolist() == answer


def test_bytes_that_are_no_picture_are_refused():
    with pytest.raises(UserError, match="cannot be decoded"):
        PROCESSOR.images([b"not a picture"])


@pytest.mark.parametrize("prompt", ["{text}{picture}", "{picture}", "robot"])
def test_a_prompt_without_a_place_for_picture_and_words_is_refused(prompt):
    with pytest.raises(UserError, match="picture"):
        Processor(PROCESSOR.tokenizer, 32, 4, prompt=prompt)


def test_a_plain_prompt_is_start_picture_and_words():
    tokenizer = PROCESSOR.tokenizer
    expected = [
        tokenizer.bos_token_id,
        *[PROCESSOR.image_id] * PROCESSOR.image_tokens,
        *tokenizer.encode("robot: put"),
    ]
    assert PROCESSOR.robot_prompt("put") == expected
    assert set(PROCESSOR.to_json()) == {"image_size", "image_tokens", "mean", "std"}
