"""Text and pictures to tensors and back, the same in training and inference.

The tiny model's tokenizer is a byte-level BPE trained on the pipeline's own texts: whole words and
integers become single tokens, and any other text still has an encoding. Sequences are padded on
the left, so that what follows the text (action queries, the next token) lies at the same place in
every row. A robot sequence is `<image>.. robot: command` then `<act>`, or `<think> text <eos>`; a
question is `<image>.. question` then `answer <eos>`.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dualvla import files
from dualvla.errors import UserError
from dualvla.models.families import PLAIN

PAD, BOS, EOS, IMAGE, THINK, ACT = "<pad>", "<bos>", "<eos>", "<image>", "<think>", "<act>"
SPECIAL = (PAD, BOS, EOS, IMAGE, THINK, ACT)
VOCABULARY = 1024
MAX_TEXT = 96  # tokens of a prompt or an answer; longer ones are cut


def train_tokenizer(texts: Iterable[str], size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Byte-level BPE of lower-cased `texts`; deterministic for the same texts in any order."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS
    )


@dataclass(frozen=True)
class Sequences:
    """A left-padded batch of token sequences."""

    input_ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, T) int64
    labels: Tensor  # (B, T) int64: what is to be predicted at that place, else -100
    acting: Tensor | None = None  # (B, T) bool: tokens of the actions' stream, where there are two


class Processor:
    """Tokenizer, image size and image normalisation of one model."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        image_tokens: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        *,
        image_token: str = IMAGE,
        prompt: str = PLAIN,
        resample: str = "bilinear",
    ) -> None:
        self.tokenizer = tokenizer
        self.image_size, self.image_tokens = image_size, image_tokens
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_token, self.prompt, self.resample = image_token, prompt, resample
        special = (image_token, THINK, ACT)
        ids: dict[str, Any] = {t: tokenizer.convert_tokens_to_ids(t) for t in special}
        if None in ids.values() or tokenizer.unk_token_id in ids.values():
            raise UserError(f"the tokenizer lacks one of {list(ids)}", fix="add the tokens first")
        self.image_id, self.think_id, self.act_id = (int(ids[t]) for t in special)
        self.pad_id = int(tokenizer.pad_token_id)
        self.eos_id = int(tokenizer.eos_token_id)
        start = tokenizer.bos_token_id
        self.start_ids: list[int] = [] if start is None else [int(start)]
        before, middle, after = self._around()
        # What comes before the words of every prompt, and what comes behind them.
        self.head: list[int] = [*before, *[self.image_id] * image_tokens, *middle]
        self.tail: list[int] = after
        self.picture = range(len(before), len(before) + image_tokens)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text without special ones, at most `MAX_TEXT`."""
        return self.tokenizer.encode(text, add_special_tokens=False)[:MAX_TEXT]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def robot_prompt(self, command: str) -> list[int]:
        """Tokens up to the point where the model chooses to think or to act."""
        return self._prompt(f"robot: {command}")

    def question_prompt(self, question: str) -> list[int]:
        """Tokens up to the point where the answer starts."""
        named = question.replace(IMAGE, " ").replace(self.image_token, " ")
        return self._prompt(named.strip())

    def _prompt(self, text: str) -> list[int]:
        return [*self.head, *self.encode(text), *self.tail]

    def _around(self) -> tuple[list[int], list[int], list[int]]:
        """Tokens of the prompt before the picture, from there to the words, and behind them."""
        before, picture, rest = self.prompt.partition("{picture}")
        middle, words, after = rest.partition("{text}")
        if not picture or not words:
            raise UserError(
                f"the prompt {self.prompt!r} lacks {{picture}} or {{text}} behind it",
                where=PROCESSOR,
                fix="write both, the picture first",
            )
        starts = before.startswith("{start}")
        first = self.start_ids if starts else []
        parts = [before.removeprefix("{start}"), middle, after]
        encoded = [self.tokenizer.encode(p, add_special_tokens=False) for p in parts]
        return [*first, *encoded[0]], encoded[1], encoded[2]

    def reasoning(self, text: str | None) -> list[int]:
        """Answer tokens of a robot sample: the decision to act, or to think and the text."""
        return [self.act_id] if text is None else [self.think_id, *self.answer(text)]

    def answer(self, text: str) -> list[int]:
        """Answer tokens with the end of the sequence."""
        return [*self.encode(text), self.eos_id]

    def pad(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Sequences:
        """Left-pad prompt + answer; only answers are labelled."""
        rows = [p + a for p, a in zip(prompts, answers, strict=True)]
        length = max(map(len, rows))
        ids = np.full((len(rows), length), self.pad_id, np.int64)
        labels = np.full((len(rows), length), -100, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            ids[i, length - len(row) :] = row
            mask[i, length - len(row) :] = 1
            if answer:
                labels[i, length - len(answer) :] = answer
        return Sequences(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels))

    def images(self, images: Sequence[bytes | np.ndarray]) -> Tensor:
        """Encoded or decoded pictures as normalised (B, 3, size, size) float32.

        Raises:
            UserError: bytes that are no picture.
        """
        return self.normalise(self.pixels(images))

    def pixels(self, images: Sequence[bytes | np.ndarray]) -> Tensor:
        """Encoded or decoded pictures as (B, size, size, 3) uint8: a quarter of their floats.

        Raises:
            UserError: bytes that are no picture.
        """
        from PIL import Image, UnidentifiedImageError

        size = (self.image_size, self.image_size)
        batch = np.empty((len(images), *size, 3), np.uint8)
        for i, image in enumerate(images):
            if isinstance(image, np.ndarray):
                picture = Image.fromarray(image)
            else:
                try:
                    picture = Image.open(io.BytesIO(image)).convert("RGB")
                except (UnidentifiedImageError, OSError) as error:
                    raise UserError(f"picture {i} of the batch cannot be decoded") from error
            if picture.size != size:
                picture = picture.resize(size, Image.Resampling[self.resample.upper()])
            batch[i] = np.asarray(picture)
        return torch.from_numpy(batch)

    def normalise(self, pixels: Tensor) -> Tensor:
        """What `pixels` gave as (B, 3, size, size) float32, channels last in memory."""
        scaled = pixels.permute(0, 3, 1, 2).float() / 255
        mean, std = torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]
        return (scaled - mean) / std

    def save(self, folder: Path) -> None:
        """Write tokenizer and `dualvla_processor.json` into a model folder."""
        self.tokenizer.save_pretrained(str(folder))
        files.write_json(folder / PROCESSOR, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Everything but the tokenizer; what is as in the tiny model is left out."""
        usual = {"image_token": IMAGE, "prompt": PLAIN, "resample": "bilinear"}
        own = {name: getattr(self, name) for name in usual}
        return {
            "image_size": self.image_size,
            "image_tokens": self.image_tokens,
            "mean": list(self.mean),
            "std": list(self.std),
            **{name: value for name, value in own.items() if value != usual[name]},
        }

    @classmethod
    def load(cls, folder: Path) -> "Processor":
        """Read what `save` wrote; a `UserError` if the folder holds no processor."""
        data = files.read_json(folder / PROCESSOR)
        # The fast tokenizer's own class: AutoTokenizer would look for it by the model's type.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        return cls(tokenizer, **data)


PROCESSOR = "dualvla_processor.json"
