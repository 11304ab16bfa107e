"""A named checkpoint made ready to become a policy: its processor, and the tokens of a decision.

Size, normalisation and placeholder of a picture are read from the checkpoint's own files, and only
what they do not say is taken from its family. The tokens to think and to act start as the mean of
the words' own embeddings, so that they mean something before they are trained and do not depend on
a random seed. A picture is one square: checkpoints that would tile a large one get it whole, which
costs detail and saves most of their image tokens.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.image_processing_base import ImageProcessingMixin

from dualvla.errors import UserError
from dualvla.models import families
from dualvla.models import vlm as vlms
from dualvla.models.processing import ACT, IMAGE, THINK, Processor

WORDS = {THINK: " think", ACT: " act"}  # a decision starts with the meaning of its word


def prepare(name: str | Path, image_size: int) -> tuple[vlms.Vlm, Processor]:
    """Model and processor of a folder, or of a checkpoint name where the hub can be reached.

    Args:
        name: what transformers loads.
        image_size: pixels a side where neither checkpoint nor family names a size.

    Raises:
        UserError: nothing there, no tokenizer, a tower for pictures that are not square, or an
            architecture that does not fit the few functions of `vlm`.
    """
    vlm = vlms.load(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        fix = "name a checkpoint whose tokenizer transformers can load"
        raise UserError(f"no tokenizer: {reason}", where=str(name), fix=fix) from error
    family = families.of(vlm.config)
    image_token = placeholder(vlm.config, tokenizer)
    add_tokens(vlm, tokenizer, image_token)
    size = _size(vlm.config, family.image_size or image_size, str(name))
    shown = _pictures(str(name))
    tokens = _image_tokens(vlm, size, str(name))
    processor = Processor(
        tokenizer,
        size,
        tokens,
        shown.get("image_mean", family.mean),
        shown.get("image_std", family.std),
        image_token=image_token,
        prompt=family.prompt,
        resample=shown.get("resample", family.resample),
    )
    return vlm, processor


def placeholder(config: families.Config, tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that stands for a picture: the one the config names, or else `<image>`.

    A config's default number may be an ordinary word of another tokenizer, so that only an added
    token counts.
    """
    wanted = getattr(config, "image_token_id", None)
    named = {number: token for token, number in tokenizer.get_added_vocab().items()}
    return named.get(wanted, IMAGE)


def add_tokens(vlm: vlms.Vlm, tokenizer: PreTrainedTokenizerBase, image_token: str) -> None:
    """Give tokenizer and model, in place, the tokens they lack; `vlm.config` names the picture's.

    Embeddings only grow: many checkpoints have spare rows behind their vocabulary.
    """
    known = tokenizer.get_vocab()
    new = [token for token in (image_token, THINK, ACT) if token not in known]
    words = {
        token: tokenizer.encode(WORDS.get(token, " image"), add_special_tokens=False)
        for token in new
    }
    tokenizer.add_tokens(new, special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if len(tokenizer) > vlm.get_input_embeddings().weight.shape[0]:
        vlm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for layer in (vlm.get_input_embeddings(), vlm.get_output_embeddings()):
            for token, ids in words.items():
                row = tokenizer.convert_tokens_to_ids(token)
                layer.weight[row] = layer.weight[ids].mean(0)
    vlm.config.image_token_id = tokenizer.convert_tokens_to_ids(image_token)


def _size(config: families.Config, usual: int, where: str) -> int:
    named: Any = getattr(config.vision_config, "image_size", usual)
    sides = {named} if isinstance(named, int) else set(named)
    if len(sides) != 1:
        raise UserError(
            f"the vision tower takes pictures of {list(named)} pixels",
            where=where,
            fix="name a checkpoint whose pictures are square",
        )
    return int(sides.pop())


def _image_tokens(vlm: vlms.Vlm, size: int, where: str) -> int:
    """How many tokens a picture becomes, found by showing it one."""
    try:
        with torch.no_grad():
            encoded = vlms.encode(vlm, torch.zeros(1, 3, size, size))
            start = torch.zeros(1, 1, dtype=torch.long)
            image = vlms.project(vlm, encoded)
            hidden = vlms.read(vlm, image[:, :1], start + 1, start, range(1))
            vlm.lm_head(hidden)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"models of type {vlm.config.model_type} cannot be a policy: {reason}",
            where=where,
            fix="name a checkpoint of a family in dualvla/models/families.py, or describe its own",
        ) from error
    return int(encoded.shape[1])


def _pictures(name: str) -> dict[str, Any]:
    """Mean, standard deviation and filter that the checkpoint's files name."""
    try:
        told, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        return {}
    shown = {k: told[k] for k in ("image_mean", "image_std") if told.get(k)}
    if told.get("resample") is not None:
        shown["resample"] = Image.Resampling(told["resample"]).name.lower()
    return shown
