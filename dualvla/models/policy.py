"""The policy: a vision-language model, action query tokens after its text, an action expert.

Language and action share the decoder. After the prompt and the optional reasoning text come learned
query tokens; their last hidden states are the latent action, which the expert turns into a chunk
by flow matching while it looks at the vision tower's tokens. The tower is frozen after the base
model's training, so that its output is computed once per picture and every later stage is cheap;
what is given up is vision that adapts to control.

Legend: B batch, T text, Q queries, N noise samples, H chunk, A action, V image tokens, D width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageTextToText

from dualvla import conventions, files
from dualvla.config import ModelShape
from dualvla.conventions import Convention
from dualvla.errors import UserError
from dualvla.models import experts
from dualvla.models import vlm as vlms
from dualvla.models.action_expert import ActionExpert
from dualvla.models.actions import ActionStatistics
from dualvla.models.processing import Processor, Sequences

ACTION_DIM = 7
STATE_DIM = 7
FORMAT = 2
HEAD = "vlm.lm_head.weight"


@dataclass(frozen=True)
class PolicyConfig:
    """Everything beside the weights."""

    shape: ModelShape
    statistics: ActionStatistics
    convention: Convention
    reasons: bool  # whether the model was trained to write reasoning
    streams: bool = False  # whether words and actions have weights of their own
    # Logit of thinking over that of acting above which `reason: auto` writes: without and with a
    # text in force.
    offsets: tuple[float, float] = (0.0, 0.0)
    commands: tuple[str, ...] = ()  # plain ones; others need their text kept in force


class VlaPolicy(nn.Module):
    """Vision-language-action policy."""

    def __init__(self, vlm: vlms.Vlm, processor: Processor, config: PolicyConfig) -> None:
        super().__init__()
        self.vlm, self.processor, self.config = vlm, processor, config
        shape = config.shape
        tower = vlms.tower(vlm)
        if tower is not None:
            tower.requires_grad_(False)
        width = vlms.width(vlm)
        self.queries = nn.Parameter(torch.randn(shape.queries, width) * 0.2)
        self.expert = ActionExpert(
            width=shape.expert_width,
            layers=shape.expert_layers,
            heads=shape.heads,
            chunk=shape.chunk,
            action_dim=ACTION_DIM,
            latent_width=width,
            vision_width=vlms.vision_width(vlm),
            vision_tokens=processor.image_tokens,
            state_dim=STATE_DIM if shape.proprioception else 0,
        )

    def forward(
        self, encoded: Tensor, sequences: Sequences, remembered: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of the text (B, T, D) and of the action queries (B, Q, D).

        Args:
            encoded: vision tower output (B, V, Dv).
            sequences: left-padded prompts and answers.
            remembered: (B, V, Dv) pictures that the words' stream is about, where there are two.
        """
        if sequences.acting is not None and remembered is not None:
            return self._by_length(encoded, sequences, remembered)
        return self._read(encoded, sequences, None)

    def _by_length(
        self, encoded: Tensor, sequences: Sequences, remembered: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rows with one picture apart from those with two: else most of a batch is padding."""
        lengths = sequences.attention_mask.sum(1)
        twice = (sequences.input_ids == self.processor.image_id).sum(1) > encoded.shape[1]
        parts = [rows for rows in (twice.nonzero()[:, 0], (~twice).nonzero()[:, 0]) if len(rows)]
        texts, queries = [], []
        for rows in parts:
            used = int(lengths[rows].max())
            assert sequences.acting is not None
            part = Sequences(
                sequences.input_ids[rows, -used:],
                sequences.attention_mask[rows, -used:],
                sequences.labels[rows, -used:],
                sequences.acting[rows, -used:],
            )
            hidden, latents = self._read(encoded[rows], part, remembered[rows])
            texts.append(F.pad(hidden, (0, 0, sequences.input_ids.shape[1] - used, 0)))
            queries.append(latents)
        back = torch.cat(parts).argsort()
        return torch.cat(texts)[back], torch.cat(queries)[back]

    def _read(
        self, encoded: Tensor, sequences: Sequences, remembered: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        embeddings = self._embed(encoded, sequences, remembered)
        queries = self.queries.to(embeddings.dtype).expand(len(embeddings), -1, -1)
        mask = torch.cat(
            [sequences.attention_mask, sequences.attention_mask.new_ones(queries.shape[:2])], 1
        )
        hidden = vlms.read(
            self.vlm,
            torch.cat([embeddings, queries], dim=1),
            mask,
            vlms.positions(mask),
            self.processor.picture,
        )
        return hidden[:, : -len(self.queries)], hidden[:, -len(self.queries) :]

    def _embed(self, encoded: Tensor, sequences: Sequences, remembered: Tensor | None) -> Tensor:
        """Embeddings (B, T, D); routes what is read after them."""
        ids, acting = sequences.input_ids, sequences.acting
        if acting is None:
            experts.set_route(self.vlm, False)
            return vlms.embed(self.vlm, ids, vlms.project(self.vlm, encoded))
        places = ids == self.processor.image_id
        spans = acting[places].unflatten(0, (-1, encoded.shape[1]))
        if remembered is not None:
            twice = places.sum(1) > encoded.shape[1]
            shown = torch.stack([twice, torch.ones_like(twice)], 1)
            encoded = torch.stack([remembered, encoded], 1)[shown]
        experts.set_route(self.vlm, spans)
        image = vlms.project(self.vlm, encoded)
        experts.set_route(self.vlm, acting)
        embeddings = vlms.embed(self.vlm, ids, image)
        # Queries act where the token before them does.
        queries = acting[:, -1:].expand(-1, len(self.queries))
        experts.set_route(self.vlm, torch.cat([acting, queries], dim=1))
        return embeddings

    def write(self, folder: Path, *, resolved: dict[str, Any], environment: dict[str, str]) -> None:
        """Write the model's files into the existing `folder`."""
        state = {k: v.detach().contiguous().clone() for k, v in self.state_dict().items()}
        state.pop(HEAD, None) if self.tied() else None
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.processor.save(folder)
        files.write_json(
            folder / "config.json",
            {
                "model_type": "dualvla_policy",
                "format": FORMAT,
                "vlm": self.vlm.config.to_dict(),
                "shape": self.config.shape.model_dump(),
                "statistics": self.config.statistics.to_json(),
                "convention": self.config.convention.to_json(),
                "reasons": self.config.reasons,
                "streams": self.config.streams,
                "offsets": list(self.config.offsets),
                "commands": list(self.config.commands),
            },
        )
        files.write_json(folder / "params.json", resolved)
        files.write_json(folder / "environment.json", environment)

    def tied(self) -> bool:
        """Whether the language head is the token embedding."""
        embedding = self.vlm.get_input_embeddings().weight
        return self.vlm.lm_head.weight.data_ptr() == embedding.data_ptr()


def load(folder: Path) -> VlaPolicy:
    """Load a policy folder strictly.

    Raises:
        UserError: missing or damaged files, another format, or weights of another shape.
    """
    data = files.read_json(folder / "config.json")
    if data.get("model_type") != "dualvla_policy" or data.get("format") != FORMAT:
        raise UserError("not a dualvla policy of this version", where=str(folder / "config.json"))
    vlm_config = dict(data["vlm"])
    config = AutoConfig.for_model(vlm_config.pop("model_type"), **vlm_config)
    config._attn_implementation = "eager"
    policy = VlaPolicy(
        # The config of a checkpoint may name another precision than the weights are kept in.
        AutoModelForImageTextToText.from_config(config, dtype=torch.float32),
        Processor.load(folder),
        PolicyConfig(
            shape=ModelShape.model_validate(data["shape"]),
            statistics=ActionStatistics.from_json(data["statistics"]),
            convention=conventions.from_json(data["convention"], str(folder)),
            reasons=data["reasons"],
            streams=data["streams"],
            offsets=tuple(data["offsets"]),
            commands=tuple(data["commands"]),
        ),
    )
    if policy.config.streams:
        experts.decouple(policy.vlm)
    load_weights(policy, folder / "model.safetensors")
    return policy.eval()


def load_weights(policy: VlaPolicy, path: Path) -> None:
    """Load weights strictly; a `UserError` names the first that is missing or of another shape."""
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise UserError(
            "no weights", where=str(path), fix="run the stage that trains it"
        ) from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"damaged weights: {error}", where=str(path), fix="train it anew"
        ) from error
    own = policy.state_dict()
    missing = set(own) - set(weights) - ({HEAD} if policy.tied() else set())
    wrong = [k for k, v in weights.items() if k not in own or own[k].shape != v.shape]
    if missing or wrong:
        first = sorted([*missing, *wrong])[0]
        fix = "load it with the parameters it was trained with"
        raise UserError(f"weight {first} is missing or of another shape", where=str(path), fix=fix)
    policy.load_state_dict(weights, strict=False)
    if not policy.config.streams:  # the words of two streams share their tensor already
        policy.vlm.tie_weights()


def start_from(base: Path, shape: ModelShape) -> tuple[vlms.Vlm, Processor]:
    """Vision-language model and processor of a base model folder.

    Raises:
        UserError: no such model, or one of another shape than `shape` says.
    """
    model = vlms.load(base)
    if shape.vlm == "tiny" and vlms.width(model) != shape.width:
        raise UserError(
            f"decoder width {vlms.width(model)} is not model.width {shape.width}",
            where=str(base),
            fix="run the stage base_vlm with these parameters",
        )
    return model, Processor.load(base)


def describe(policy: VlaPolicy) -> str:
    """Sizes in words, for logs."""
    total = sum(p.numel() for p in policy.parameters())
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    return f"{total / 1e6:.2f}M parameters, {trained / 1e6:.2f}M trained"


def require_shape(model: VlaPolicy, shape: ModelShape, where: Path) -> None:
    """Raise a `UserError` if a loaded policy has another shape than the parameters say."""
    stored = model.config.shape.model_dump()
    for name, value in shape.model_dump().items():
        if stored[name] != value:
            raise UserError(
                f"model.{name} is {stored[name]!r} in the checkpoint, {value!r} in the parameters",
                where=str(where),
                fix="run the stages before it with these parameters",
            )
