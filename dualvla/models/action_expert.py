"""Flow-matching action expert: a small transformer that turns noise into an action chunk.

Its actions attend to themselves and to a fixed context: the action queries' hidden states (what to
do), the vision tower's tokens (where things are: pooled image tokens alone leave a tiny policy near
half success) and optionally the arm's state. The context is embedded once per decision and read by
every layer and every Euler step, and what a layer takes from the flow time is computed for all
steps at once, so a step costs only the chunk's own few tokens. What is given up is context tokens
that attend to each other, which the decoder has done for the queries already.

Legend: B batch, N noise samples per context, H chunk, A action dimension, C context, W width.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# InstructVLA's flow: x_t = (1 - (1 - s) t) x0 + t x1, t = 0.999 (1 - z), z ~ Beta(1.5, 1).
SIGMA = 0.001
TIME_SCALE = 0.999
BETA = 1.5


def flow_time(uniform: Tensor) -> Tensor:
    """Map uniform numbers in [0, 1) to flow times: z ~ Beta(1.5, 1) has the CDF z^1.5."""
    return TIME_SCALE * (1 - uniform.clamp_min(1e-6) ** (1 / BETA))


def interpolate(noise: Tensor, actions: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Point on the path from `noise` to `actions` at `time`, and the velocity there."""
    t = time[..., None, None]
    return (1 - (1 - SIGMA) * t) * noise + t * actions, actions - (1 - SIGMA) * noise


class _Layer(nn.Module):
    """Attention over context and actions, then an MLP, both modulated by the flow time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.context_kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # Scales and gates are about one, shifts about zero.
        neutral = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]).repeat_interleave(width)
        self.neutral: Tensor
        self.register_buffer("neutral", neutral, persistent=False)

    def _split(self, x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(-1, (self.heads, -1))
        return parts.transpose(-2, -3)  # ... heads T d

    def keys(self, context_BCW: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the context, (B, heads, C, d) each."""
        k, v = self.context_kv(context_BCW).chunk(2, dim=-1)
        return self._split(k), self._split(v)

    def modulate(self, time: Tensor) -> Tensor:
        """Scale, shift and gate of the two parts, (..., 6 W), at embedded flow times (..., W)."""
        modulation: Tensor = self.modulation(time) + self.neutral
        return modulation

    def forward(self, x_BNHW: Tensor, modulation: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
        """`modulation` is (B, N, 6 W), or (6 W,) where all have the same flow time."""
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = modulation[..., None, :].chunk(6, -1)
        attended = torch.addcmul(shift_a, self.norm_attention(x_BNHW), scale_a)
        q, k, v = self.qkv(attended).chunk(3, dim=-1)
        q, k, v = self._split(q), self._split(k), self._split(v)  # B N heads H d
        context_k, context_v = keys[0][:, None], keys[1][:, None]
        scale = 1 / math.sqrt(q.shape[-1])
        logits = torch.cat([q @ context_k.transpose(-1, -2), q @ k.transpose(-1, -2)], dim=-1)
        weights = (logits.float() * scale).softmax(-1).to(q.dtype)
        c = context_k.shape[-2]
        mixed = weights[..., :c] @ context_v + weights[..., c:] @ v
        x_BNHW = torch.addcmul(x_BNHW, gate_a, self.out(mixed.transpose(-2, -3).flatten(-2)))
        hidden = torch.addcmul(shift_m, self.norm_mlp(x_BNHW), scale_m)
        return torch.addcmul(x_BNHW, gate_m, self.mlp(hidden))


class ActionExpert(nn.Module):
    """Velocity field of the action flow."""

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        chunk: int,
        action_dim: int,
        latent_width: int,
        vision_width: int,
        vision_tokens: int,
        state_dim: int,
    ) -> None:
        super().__init__()
        self.chunk, self.action_dim = chunk, action_dim
        self.latent_in = nn.Sequential(nn.LayerNorm(latent_width), nn.Linear(latent_width, width))
        self.vision_in = nn.Sequential(
            nn.Linear(vision_width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.vision_place = nn.Parameter(torch.randn(vision_tokens, width) * 0.2)
        self.state_in: nn.Module | None = nn.Linear(state_dim, width) if state_dim else None
        self.action_in = nn.Linear(action_dim, width)
        self.action_place = nn.Parameter(torch.randn(chunk, width) * 0.2)
        self.time_in = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, action_dim)
        half = width // 2
        frequencies = torch.exp(-math.log(100.0) * torch.arange(half) / half) * 10
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies, persistent=False)

    def context(
        self, latents: Tensor, encoded: Tensor, state: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values per layer of queries (B, Q, D), vision (B, V, Dv) and state (B, S)."""
        parts = [self.latent_in(latents), self.vision_in(encoded) + self.vision_place]
        if self.state_in is not None:
            parts.append(self.state_in(state)[:, None])
        context = torch.cat(parts, dim=1)
        return [layer.keys(context) for layer in self.layers]

    def velocity(self, context: list[tuple[Tensor, Tensor]], x: Tensor, time: Tensor) -> Tensor:
        """Velocity at the noisy chunks `x` (B, N, H, A) and flow times (B, N)."""
        return self._velocity(context, x, self._modulations(time))

    def _modulations(self, time: Tensor) -> list[Tensor]:
        """What each layer takes from flow times (...): (..., 6 W)."""
        angles = time[..., None] * self.frequencies
        embedded = self.time_in(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return [layer.modulate(embedded) for layer in self.layers]

    def _velocity(
        self, context: list[tuple[Tensor, Tensor]], x: Tensor, modulations: Iterable[Tensor]
    ) -> Tensor:
        hidden = self.action_in(x) + self.action_place
        for layer, modulation, keys in zip(self.layers, modulations, context, strict=True):
            hidden = layer(hidden, modulation, keys)
        return self.out(self.norm(hidden)).float()

    def sample(self, context: list[tuple[Tensor, Tensor]], noise: Tensor, steps: int) -> Tensor:
        """Integrate from `noise` (B, H, A) to a chunk with `steps` Euler steps."""
        return self.samples(context, noise[:, None], steps)[:, 0]

    def samples(self, context: list[tuple[Tensor, Tensor]], noise: Tensor, steps: int) -> Tensor:
        """The same from several noises a context, (B, N, H, A)."""
        x = noise
        times = torch.arange(steps, device=x.device) / steps
        for modulations in zip(*self._modulations(times), strict=True):
            x = x + self._velocity(context, x, modulations) / steps
        return x
