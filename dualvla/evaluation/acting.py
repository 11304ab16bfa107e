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
from dualvla.models import actions, experts, generation, inference, policy
from dualvla.models import vlm as vlms
from dualvla.training import loop, samples


@dataclass
class _Episode:
    """What the policy remembers of a running episode; nothing else survives a reset."""

    instruction: str
    seed: int
    decisions: int = 0
    text: str | None = None
    written: list[int] = field(default_factory=list)  # tokens of `text`, the next one's draft
    prompt: list[int] = field(default_factory=list)
    words: generation.Prefix | None = None  # of two streams: the text in force
    urged: bool = True  # whether it preferred to write at the last decision


@dataclass(frozen=True)
class Settings:
    """How a policy acts."""

    execute: int | None  # actions of a chunk that a decision returns; None: all of them
    reason: config.Reason
    reason_every: int  # decisions between two texts, for `every_n`


class ModelPolicy:
    """`interface.Policy` of a model folder."""

    def __init__(self, path: Path, settings: Settings, seed: int) -> None:
        self.model = policy.load(path)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.convention = self.model.config.convention
        self.settings, self.seed = settings, seed
        chunk = self.model.config.shape.chunk
        if settings.execute is not None and settings.execute > chunk:
            what = f"{settings.execute} actions a decision wanted, the model predicts {chunk}"
            raise UserError(what, where=str(path), fix="execute fewer")
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
        encoded = inference.encode(self.model, pictures)
        decide = self._in_two_streams if self.model.config.streams else self._in_one_stream
        thinking, written, latents = decide(episodes, encoded)
        chunk = self._chunks(episodes, observations, encoded, latents)
        decisions = []
        for i, (episode, observation) in enumerate(zip(episodes, observations, strict=True)):
            if thinking[i]:
                episode.text = self.model.processor.decode(written[i])
            episode.decisions += 1
            statistics = self.model.config.statistics
            wanted = actions.unnormalise(chunk[i, : self.settings.execute], statistics)
            moves = actions.deltas(observation.controller, wanted, statistics)
            tokens = len(written[i]) + 2 if thinking[i] else 1
            decisions.append(Decision(moves, episode.text, tokens))
        return decisions

    def _in_one_stream(
        self, episodes: list[_Episode], encoded: Tensor
    ) -> tuple[list[bool], list[list[int]], Tensor]:
        """Whether each row thinks, what it writes, and its latent actions (B, Q, D)."""
        vlm, processor = self.model.vlm, self.model.processor
        prefix = generation.start(vlm, processor, encoded, [e.prompt for e in episodes])
        thinking = torch.tensor(
            [self._thinks(e, row) for e, row in zip(episodes, prefix.logits, strict=True)],
            device=self.device,
        )
        first = torch.where(thinking, processor.think_id, processor.act_id)
        if not thinking.any():
            return thinking.tolist(), [[] for _ in episodes], self._latents(prefix, first)
        generation.append(vlm, prefix, first, torch.ones_like(thinking))
        written = self._write(episodes, prefix, thinking)
        return thinking.tolist(), written, self._latents(prefix)

    def _in_two_streams(
        self, episodes: list[_Episode], encoded: Tensor
    ) -> tuple[list[bool], list[list[int]], Tensor]:
        """`_in_one_stream` for a model whose words come first, row by row.

        The words in force stay in their cache, so that keeping them costs nothing; what the
        actions' stream read behind them is taken out again.
        """
        rows = [self._in_words_and_actions(e, encoded[i : i + 1]) for i, e in enumerate(episodes)]
        thinking, written, latents = zip(*rows, strict=True)
        return list(thinking), list(written), torch.cat(latents)

    def _in_words_and_actions(
        self, episode: _Episode, encoded: Tensor
    ) -> tuple[bool, list[int], Tensor]:
        vlm, processor = self.model.vlm, self.model.processor
        one = torch.ones(1, dtype=torch.long, device=self.device)
        thinking = self._told(episode)
        if not thinking:
            prefix, size = self._read_command(episode, encoded)
            thinking = self._thinks(episode, prefix.logits[0])
        if thinking:
            words = generation.start(vlm, processor, encoded, [episode.prompt])
            generation.append(vlm, words, one * processor.think_id, one)
            episode.written = generation.redraft(vlm, words, processor.eos_id, episode.written)
            episode.words = words
            prefix, size = self._read_command(episode, encoded)
        experts.set_route(vlm, True)
        latents = self._latents(prefix, one * processor.act_id)
        generation.forget(prefix, prefix.mask.shape[1] - size)
        if not self._holds(episode):
            episode.words = None
        return thinking, episode.written if thinking else [], latents

    def _read_command(self, episode: _Episode, encoded: Tensor) -> tuple[generation.Prefix, int]:
        """The actions' stream up to the decision, and how many tokens of words lie before it."""
        vlm, processor = self.model.vlm, self.model.processor
        if episode.words is None:
            return generation.start(vlm, processor, encoded, [episode.prompt], acting=True), 0
        prefix = episode.words
        size = prefix.mask.shape[1]
        experts.set_route(vlm, True)
        ids = torch.tensor([episode.prompt], device=self.device)
        embeddings = vlms.embed(vlm, ids, vlms.project(vlm, encoded))
        hidden = generation.extend(vlm, prefix, embeddings, torch.ones_like(ids))
        prefix.logits = vlm.lm_head(hidden[:, -1:]).float()[:, 0]
        return prefix, size

    def _holds(self, episode: _Episode) -> bool:
        """Whether a text stays in force: it does where the command alone does not say enough."""
        free = episode.instruction not in self.model.config.commands
        return free and self.settings.reason in ("auto", "every_n")

    def _latents(self, prefix: generation.Prefix, first: Tensor | None = None) -> Tensor:
        """Latent actions (B, Q, D), behind the token `first` (B,) where it is still to be read."""
        vlm, queries = self.model.vlm, self.model.queries
        read = queries.expand(len(prefix.mask), -1, -1)
        if first is not None:
            read = torch.cat([vlm.get_input_embeddings()(first[:, None]), read], dim=1)
        ones = torch.ones(read.shape[:2], dtype=torch.long, device=self.device)
        return generation.extend(vlm, prefix, read, ones)[:, -len(queries) :]

    def _write(
        self, episodes: list[_Episode], prefix: generation.Prefix, thinking: Tensor
    ) -> list[list[int]]:
        """What each row that thinks writes, at least one of them; nothing for the others."""
        vlm, eos = self.model.vlm, self.model.processor.eos_id
        if len(episodes) == 1:
            episodes[0].written = generation.redraft(vlm, prefix, eos, episodes[0].written)
            return [episodes[0].written]
        return generation.greedy(vlm, prefix, eos, thinking)

    def _thinks(self, episode: _Episode, logits: Tensor) -> bool:
        told = self._told(episode)
        if told is not None:
            return told
        held = episode.words is not None
        urged, before = bool(inference.prefers_text(self.model, logits, held=held)), episode.urged
        episode.urged = urged
        # A text in force is written anew where the wish to do so arises, not while it lasts: an
        # event is a change, and a policy unsure of all it sees would write the same at each step.
        return urged and not (held and before)

    def _told(self, episode: _Episode) -> bool | None:
        """Whether to think, or None where the model is asked."""
        if not self.model.config.reasons or self.settings.reason == "never":
            return False
        if self.settings.reason == "every_n":
            return episode.decisions % self.settings.reason_every == 0
        # Pruning keeps every first frame's text: there is a plan before a motion.
        return True if self.settings.reason == "always" or episode.decisions == 0 else None

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
        chunk = inference.chunks(self.model, encoded, latents, state, torch.stack(noise))
        return chunk.cpu().numpy()
