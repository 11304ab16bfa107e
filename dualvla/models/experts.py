"""Two streams in one decoder: words and actions keep weights of their own and share attention.

A specialist that learns to speak loses motor skill because one set of weights serves both. Here
every token is routed: a robot's prompt and the action queries run through the weights of the
specialist, questions and reasoning through those of the base model, and the two meet in attention
alone, where the actions read the words. Without words a policy acts as the specialist does, and the
words know nothing of actions: the partial decoupling of InstructVLA's mixture of adapters taken to
its end, with a gate that is known instead of learned. The price is the decoder's weights twice; the
cost of a token is that of one decoder. Only decoders of Llama's layout are supported.
"""

import copy

import torch
from torch import Tensor, nn

from dualvla.errors import UserError
from dualvla.models import families
from dualvla.models.families import Vlm

# Parts of a decoder that hold weights, by the last part of their names.
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ROUTED = {*ATTENTION, "mlp", "input_layernorm", "post_attention_layernorm", "norm"}


class Route:
    """Which tokens of the coming calls act; shared by the routed parts of a model."""

    def __init__(self) -> None:
        self.every: bool | None = False  # all of them act, none does, or (None) it depends
        self.count = 0  # of acting tokens
        self.order = self.inverse = torch.zeros(0, dtype=torch.long)  # acting tokens first

    def set(self, acting: Tensor | bool) -> None:
        """Route the calls that follow by one answer for all tokens, or by (B, T) bool."""
        if isinstance(acting, Tensor) and acting.any() and not acting.all():
            self.every, self.count = None, int(acting.sum())
            self.order = acting.flatten().long().argsort(descending=True, stable=True)
            self.inverse = self.order.argsort()
        else:
            self.every = bool(acting.any()) if isinstance(acting, Tensor) else acting


class Routed(nn.Module):
    """One part of the decoder, twice: for words and for actions."""

    def __init__(self, words: nn.Module, actions: nn.Module, route: Route) -> None:
        super().__init__()
        self.words, self.actions, self.route = words, actions, route

    @property
    def weight(self) -> Tensor:
        """That of the words, which the head shares."""
        return self.words.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Route tokens (B, T) or their states (B, T, D)."""
        route = self.route
        if route.every is not None:
            chosen: Tensor = (self.actions if route.every else self.words)(x)
            return chosen
        flat = x.flatten(0, 1)[route.order]
        acting, speaking = self.actions(flat[: route.count]), self.words(flat[route.count :])
        return torch.cat([acting, speaking])[route.inverse].unflatten(0, x.shape[:2])


def decouple(vlm: Vlm, words: Vlm | None = None) -> None:
    """Route all but acting tokens of `vlm` through the weights of `words`, in place.

    Args:
        vlm: a model that acts.
        words: one of the same shape that speaks; None: a copy of `vlm`, to load weights into.

    Raises:
        UserError: a decoder of another layout.
    """
    words = copy.deepcopy(vlm) if words is None else words
    decoder, speaking = vlm.get_decoder(), dict(words.get_decoder().named_modules())
    parts = [(n, p) for n, p in decoder.named_modules() if n.rpartition(".")[2] in ROUTED]
    if not {*ATTENTION, "mlp"} <= {name.rpartition(".")[2] for name, _ in parts}:
        what = f"no two streams for a decoder like {type(decoder).__name__}"
        raise UserError(what, where="arm decoupled", fix="leave the arm out")
    route = Route()
    for name, part in parts:
        parent, _, last = name.rpartition(".")
        setattr(decoder.get_submodule(parent), last, Routed(speaking[name], part, route))
    projector = families.of(vlm.config).projector
    if projector is not None:
        pair = Routed(getattr(words.model, projector), getattr(vlm.model, projector), route)
        setattr(vlm.model, projector, pair)
    embedding = Routed(words.get_input_embeddings(), vlm.get_input_embeddings(), route)
    vlm.set_input_embeddings(embedding)
    vlm.lm_head = words.lm_head


def set_route(vlm: Vlm, acting: Tensor | bool) -> None:
    """Route the calls that follow; nothing to do for a model with one stream."""
    embedding = vlm.get_input_embeddings()
    if isinstance(embedding, Routed):
        embedding.route.set(acting)
