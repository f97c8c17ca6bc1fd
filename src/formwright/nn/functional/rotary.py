"""Rotary positions: queries and keys are turned by angles that grow with their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.errors import UserError

_SCALING = {"factor", "low_frequency_factor", "high_frequency_factor", "original_length"}


def rotary_frequencies(
    dim: int, *, base: float = 10000.0, scaling: Mapping[str, float] | None = None
) -> Float[Tensor, "pairs"]:
    """Radians a place of each pair of channels: ``base^(-2 i / dim)`` for ``i < dim / 2``, float64.

    ``scaling`` stretches them to longer sequences. With ``factor`` alone, all are divided by it (position
    interpolation, arXiv 2306.15595). With ``low_frequency_factor``, ``high_frequency_factor`` and ``original_length``
    too, waves longer than ``original_length / low_frequency_factor`` are divided by it, those shorter than
    ``original_length / high_frequency_factor`` stay, and those between are blended (Llama 3, arXiv 2407.21783).

    Raises:
        UserError: ``dim`` is odd, or ``scaling`` is neither of the two.
    """
    if dim < 2 or dim % 2:
        raise UserError(f"Rotary positions turn pairs of channels, and {dim} channels do not make pairs.")
    frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if scaling is None:
        return frequencies
    if set(scaling) == {"factor"}:
        return frequencies / scaling["factor"]
    if set(scaling) != _SCALING:
        raise UserError(
            f"Rotary scaling takes factor alone, or {', '.join(sorted(_SCALING))}; got {', '.join(sorted(scaling))}."
        )
    turns = scaling["original_length"] * frequencies / (2 * math.pi)
    low, high = scaling["low_frequency_factor"], scaling["high_frequency_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / scaling["factor"]


def rotate(
    x: Float[Tensor, "batch time heads channels"], cosine: Tensor, sine: Tensor
) -> Float[Tensor, "batch time heads channels"]:
    """Turn channels ``i`` and ``i + pairs`` of the first ``2 pairs`` channels by an angle; leave the others.

    ``cosine`` and ``sine`` are those of the angles, ``(batch or 1, time, 1, pairs)``.
    """
    pairs = cosine.shape[-1]
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)


class Rotary(nn.Module):
    """Rotary positions of queries and keys, so that their product depends on the difference of places.

    Channels ``i`` and ``i + d/2`` of the first ``d`` of a head are turned by ``place * frequency_i``.

    Args:
        head_dim: channels of a head.
        base: the slowest pair turns by about ``1 / base`` a place.
        fraction: share of the channels that are turned.
        scaling: stretches to longer sequences, see :func:`rotary_frequencies`.

    Source: RoFormer, arXiv 2104.09864; channels are paired as in Llama's checkpoints of transformers.
    """

    frequencies: Tensor

    def __init__(
        self,
        head_dim: int,
        *,
        base: float = 10000.0,
        fraction: float = 1.0,
        scaling: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        frequencies = rotary_frequencies(int(head_dim * fraction), base=base, scaling=scaling)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rotary:
        """Moves with the model and stays float64: the angles of late places need it."""
        frequencies = self.frequencies
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.frequencies = frequencies.to(self.frequencies.device)
        return self

    def forward(
        self, positions: Int[Tensor, "rows time"], *tensors: Float[Tensor, "batch time _ channels"]
    ) -> tuple[Float[Tensor, "batch time _ channels"], ...]:
        """Turn each tensor; ``positions`` has a row for each sample, or one for all."""
        angles = (positions[..., None] * self.frequencies)[:, :, None]
        cosine, sine = angles.cos().to(tensors[0].dtype), angles.sin().to(tensors[0].dtype)
        return tuple(rotate(x, cosine, sine) for x in tensors)
