"""A trained policy that acts: one batched model behind many environments.

A decision encodes the picture once, runs the prompt through the decoder, lets the model choose to
think or to act (`reason: auto`, which always thinks at an episode's start), writes the text if it
thinks, and runs the action queries on the same cache. On a CPU rows are run one by one: batching
gains little there, and a row's result must not depend on its neighbours to the last bit. Flow noise
is seeded by episode and decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualvla import config
from dualvla.errors import UserError
from dualvla.interface import Decision, Observation
from dualvla.models import actions, generation, policy
from dualvla.models import vlm as vlms
from dualvla.models.processing import Processor
from dualvla.training import loop, samples

QUESTION_BATCH = 64


@dataclass
class _Episode:
    """What the policy remembers of a running episode; nothing else survives a reset."""

    instruction: str
    seed: int
    decisions: int = 0
    text: str | None = None
    written: list[int] = field(default_factory=list)  # tokens of `text`, the next one's draft
    prompt: list[int] = field(default_factory=list)


class ModelPolicy:
    """`interface.Policy` of a model folder."""

    def __init__(self, path: Path, settings: config.Evaluate, seed: int) -> None:
        self.model = policy.load(path)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.convention = self.model.config.convention
        self.settings, self.seed = settings, seed
        if settings.execute > self.model.config.shape.chunk:
            raise UserError("evaluate.execute is greater than the model's chunk", where=str(path))
        self._episodes: dict[int, _Episode] = {}

    def reset(self, slot: int, instruction: str, seed: int) -> None:
        """Forget the slot's episode."""
        prompt = self.model.processor.robot_prompt(instruction)
        self._episodes[slot] = _Episode(instruction, seed, prompt=prompt)

    def act(self, slots: Sequence[int], observations: Sequence[Observation]) -> list[Decision]:
        """One decision a slot.

        Raises:
            UserError: an observation without a picture, or with another instruction than at reset.
        """
        if self.device.type == "cpu":
            groups = [[i] for i in range(len(slots))]
        else:
            groups = [list(range(len(slots)))]
        decisions: list[Decision] = []
        for group in groups:
            episodes = [self._episodes[slots[i]] for i in group]
            decisions += self._decide(episodes, [observations[i] for i in group])
        return decisions

    @torch.inference_mode()
    def _decide(self, episodes: list[_Episode], observations: list[Observation]) -> list[Decision]:
        pictures = []
        for episode, observation in zip(episodes, observations, strict=True):
            if observation.image is None:
                raise UserError("an observation without a picture reached the policy")
            if observation.instruction != episode.instruction:
                raise UserError("the instruction changed without a reset")
            pictures.append(observation.image)
        vlm, processor = self.model.vlm, self.model.processor
        encoded = encode(self.model, pictures)
        prefix = generation.start(vlm, processor, encoded, [e.prompt for e in episodes])
        thinking = torch.tensor(
            [self._thinks(e, row) for e, row in zip(episodes, prefix.logits, strict=True)],
            device=self.device,
        )
        first = torch.where(thinking, processor.think_id, processor.act_id)
        generation.append(vlm, prefix, first, torch.ones_like(thinking))
        written = self._write(episodes, prefix, thinking)
        queries = self.model.queries.expand(len(episodes), -1, -1)
        ones = torch.ones(queries.shape[:2], dtype=torch.long, device=self.device)
        latents = generation.extend(vlm, prefix, queries, ones)
        chunk = self._chunks(episodes, observations, encoded, latents)
        decisions = []
        for i, (episode, observation) in enumerate(zip(episodes, observations, strict=True)):
            if bool(thinking[i]):
                episode.text = processor.decode(written[i])
            episode.decisions += 1
            statistics = self.model.config.statistics
            wanted = actions.unnormalise(chunk[i, : self.settings.execute], statistics)
            moves = actions.deltas(observation.controller, wanted, statistics)
            tokens = len(written[i]) + 2 if bool(thinking[i]) else 1
            decisions.append(Decision(moves, episode.text, tokens))
        return decisions

    def _write(
        self, episodes: list[_Episode], prefix: generation.Prefix, thinking: Tensor
    ) -> list[list[int]]:
        vlm, eos = self.model.vlm, self.model.processor.eos_id
        if len(episodes) == 1 and bool(thinking[0]):
            episodes[0].written = generation.redraft(vlm, prefix, eos, episodes[0].written)
            return [episodes[0].written]
        return generation.greedy(vlm, prefix, eos, thinking)

    def _thinks(self, episode: _Episode, logits: Tensor) -> bool:
        if not self.model.config.reasons or self.settings.reason == "never":
            return False
        if self.settings.reason == "always":
            return True
        if self.settings.reason == "every_n":
            return episode.decisions % self.settings.reason_every == 0
        if episode.decisions == 0:
            return True  # pruning keeps every first frame's text: there is a plan before a motion
        return bool(prefers_text(self.model.processor, logits))

    def _chunks(
        self,
        episodes: list[_Episode],
        observations: list[Observation],
        encoded: Tensor,
        latents: Tensor,
    ) -> np.ndarray:
        shape = self.model.config.shape
        noise = [
            torch.randn(
                shape.chunk,
                policy.ACTION_DIM,
                generator=loop.generator(self.seed + e.seed, e.decisions),
            )
            for e in episodes
        ]
        state = samples.normalised_state(
            np.stack([o.state for o in observations]), self.model.config.statistics
        )
        chunk = chunks(self.model, encoded, latents, state, torch.stack(noise))
        return chunk.cpu().numpy()


def prefers_text(processor: Processor, logits: Tensor) -> Tensor:
    """Whether a model would rather think than act, (...), from next-token logits (..., V)."""
    return logits[..., processor.think_id] > logits[..., processor.act_id]


def chunks(
    model: policy.VlaPolicy, encoded: Tensor, latents: Tensor, state: Tensor, noise: Tensor
) -> Tensor:
    """Normalised chunks (B, H, 7) that the expert makes of noise (B, H, 7).

    Args:
        model: the policy.
        encoded: vision tower output (B, V, Dv).
        latents: hidden states of the action queries (B, Q, D).
        state: (B, 7) normalised, on any device.
        noise: on any device.
    """
    device = model.queries.device
    context = model.expert.context(latents, encoded, state.to(device))
    return model.expert.sample(context, noise.to(device), model.config.shape.flow_steps)


def encode(model: policy.VlaPolicy, pictures: Sequence[bytes | np.ndarray]) -> Tensor:
    """Vision tower output (B, V, Dv) float32 of pictures, on the model's device."""
    device = model.queries.device
    pixels = model.processor.images(pictures).to(device, memory_format=torch.channels_last)
    return vlms.encode(model.vlm, pixels).float()


@torch.inference_mode()
def answer(
    vlm: vlms.Vlm, processor: Processor, encoded: Tensor, questions: Sequence[str]
) -> list[str]:
    """Greedy answers to questions about pictures (B, V, Dv)."""
    answers: list[str] = []
    for at in range(0, len(questions), QUESTION_BATCH):
        part = slice(at, at + QUESTION_BATCH)
        prompts = [processor.question_prompt(q) for q in questions[part]]
        prefix = generation.start(vlm, processor, encoded[part], prompts)
        active = torch.ones(len(prompts), dtype=torch.bool, device=encoded.device)
        written = generation.greedy(vlm, prefix, processor.eos_id, active)
        answers += [processor.decode(tokens) for tokens in written]
    return answers
