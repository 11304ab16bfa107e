"""Tiny checkpoints of real families, written as their own files, and the real ones' sizes.

`SIZES` holds the published configs; only what decides shapes and counts is given. The Eagle class
is Eagle2-2B's parts in transformers' LLaVA classes: without its pixel shuffle the 256 tokens of a
picture come from 224 pixels instead of 448.
"""

from pathlib import Path
from typing import Any

import torch
from tiny_policy import TEXTS, params, pictures, statistics
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from dualvla import conventions
from dualvla.models import pretrained
from dualvla.models.inference import encode
from dualvla.models.policy import PolicyConfig, VlaPolicy
from dualvla.training import samples

COMMANDS = ["put", "put the carrot on the plate now"]
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SMOL = [*CHAT, "<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>"]
QWEN = [*CHAT, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
INTERN = ["<pad>", "<s>", "</s>", "<IMG_CONTEXT>"]
# Special tokens, and which of them start, end and pad a text.
TOKENS: dict[str, tuple[list[str], dict[str, str]]] = {
    "smolvlm": (SMOL, {"bos": "<|im_start|>", "eos": "<end_of_utterance>", "pad": "<|im_end|>"}),
    "qwen2_5_vl": (QWEN, {"eos": "<|im_end|>", "pad": "<|endoftext|>"}),
    "eagle": (CHAT, {"eos": "<|im_end|>", "pad": "<|endoftext|>"}),
    "internvl": (INTERN, {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}),
}
TOKENS["idefics3"] = TOKENS["smolvlm"]

_EYE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "image_size": 32}
_EYE |= {"num_attention_heads": 2, "patch_size": 8}
_MIND = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 320}
_MIND |= {"num_attention_heads": 2, "num_key_value_heads": 1}
_LOUD = {"initializer_range": 0.3}  # so that a token read at a wrong place shows

TINY: dict[str, dict[str, Any]] = {
    "smolvlm": {
        "model_type": "smolvlm",
        "image_token_id": SMOL.index("<image>"),
        "scale_factor": 2,
        "vision_config": {**_EYE, **_LOUD},
        "text_config": {"model_type": "llama", **_MIND, **_LOUD},
    },
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        "image_token_id": QWEN.index("<|image_pad|>"),
        "tie_word_embeddings": True,
        "vision_config": {
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": 56,
            "window_size": 224,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [1],
        },
        "text_config": {
            **_MIND,
            **_LOUD,
            "vocab_size": 512,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 1, 1],
            },
        },
    },
    "eagle": {
        "model_type": "llava",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **_EYE},
        "text_config": {"model_type": "qwen2", "tie_word_embeddings": True, **_MIND, **_LOUD},
    },
    "internvl": {
        "model_type": "internvl",
        "image_token_id": INTERN.index("<IMG_CONTEXT>"),
        "downsample_ratio": 0.5,
        "vision_config": {**_EYE, "image_size": [32, 32], "patch_size": [8, 8]},
        "text_config": {"model_type": "qwen2", **_MIND, **_LOUD},
    },
}
TINY["idefics3"] = {**TINY["smolvlm"], "model_type": "idefics3"}
FAMILIES = ("smolvlm", "qwen2_5_vl", "eagle")

SIZES: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": {
        "model_type": "smolvlm",
        "image_token_id": 49190,
        "scale_factor": 4,
        "tie_word_embeddings": False,
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 512,
            "patch_size": 16,
        },
        "text_config": {
            "model_type": "llama",
            "hidden_size": 960,
            "intermediate_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 15,
            "num_key_value_heads": 5,
            "head_dim": 64,
            "vocab_size": 49280,
        },
    },
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "model_type": "qwen2_5_vl",
        "image_token_id": 151655,
        "tie_word_embeddings": True,
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "patch_size": 14,
            "window_size": 112,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [16, 24, 24],
            },
        },
    },
    "SigLIP-so400m with Qwen2.5-1.5B": {
        "model_type": "llava",
        "image_token_index": 151665,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
    },
}


def build(config: dict[str, Any], attention: str = "eager") -> Any:
    """A model of random weights."""
    values = dict(config)
    made = AutoConfig.for_model(values.pop("model_type"), **values)
    made._attn_implementation = attention
    return AutoModelForImageTextToText.from_config(made).eval()


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the family's special tokens first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special, roles = TOKENS[family]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([*TEXTS, "user\n", "User:", "assistant\n", " think", " act"], trainer)
    names = {f"{role}_token": token for role, token in roles.items()}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def checkpoint(folder: Path, family: str) -> Path:
    """Write a tiny checkpoint of a family as its publisher would; returns its folder."""
    torch.manual_seed(0)
    out = folder / family
    build(TINY[family]).save_pretrained(str(out))
    tokenizer(family).save_pretrained(str(out))
    return out


def policy(folder: Path, family: str) -> VlaPolicy:
    """A policy of a tiny checkpoint."""
    vlm, processor = pretrained.prepare(checkpoint(folder, family), image_size=32)
    torch.manual_seed(0)
    settings = PolicyConfig(params().model, statistics(), conventions.WIDOWX_SIMULATION, True)
    return VlaPolicy(vlm, processor, settings).eval()


def batches(model):
    """Two frames with a text, as a function of the step."""
    processor, chunk = model.processor, model.config.shape.chunk
    robot = samples.RobotSamples(
        encoded=encode(model, pictures(2)).detach(),
        actions=torch.zeros(2, chunk, 7),
        state=torch.zeros(2, 7),
        prompts=[processor.robot_prompt(c) for c in COMMANDS],
        plain=[processor.robot_prompt(c) for c in COMMANDS],
        answers=[processor.reasoning("move: down")] * 2,
        labelled=True,
    )
    return samples.Mixer(processor, 2, 0.0, 0, robot)
