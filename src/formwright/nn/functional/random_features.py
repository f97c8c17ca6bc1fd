"""Feature maps whose inner products are attention's weights, or stand in for them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def orthogonal_gaussian(features: int, channels: int) -> Float[Tensor, "features channels"]:
    """Rows of normal vectors' lengths, orthogonal within each group of ``channels``.

    Source: Rethinking Attention with Performers, arXiv 2009.14794.
    """
    groups = math.ceil(features / channels)
    directions = [torch.linalg.qr(torch.randn(channels, channels))[0].T for _ in range(groups)]
    lengths = torch.randn(features, channels).norm(dim=1, keepdim=True)
    return torch.cat(directions)[:features] * lengths


def positive_softmax_features(
    x: Float[Tensor, "batch time heads channels"], projection: Float[Tensor, "features channels"], *, query: bool
) -> Float[Tensor, "batch time heads features"]:
    """FAVOR+: ``exp(w x' - |x'|² / 2) / sqrt(features)`` with ``x' = x / channels^(1/4)`` for each row ``w``.

    ``E[phi(q) phi(k)] = exp(q k / sqrt(channels))``. Computed in float32 at least. Features of a query are divided by
    their largest, which attention's quotient does not see; those of keys are not: they are at most
    ``exp(max |w|² / 2)``, and dividing by the largest of all tokens, as other implementations do, would make every
    result depend on padding and on later tokens.

    Source: Rethinking Attention with Performers, arXiv 2009.14794.
    """
    x = x.float() if x.dtype == torch.bfloat16 else x
    x = x * x.shape[-1] ** -0.25
    exponent = x @ projection.to(x.dtype).T - x.square().sum(-1, keepdim=True) / 2
    if query:
        exponent = exponent - exponent.amax(-1, keepdim=True)
    return exponent.exp() / math.sqrt(projection.shape[0])


def cosine_features(
    x: Float[Tensor, "batch time heads channels"], places: Int[Tensor, "rows time"], length: int
) -> Float[Tensor, "batch time heads features"]:
    """cosFormer: ``[relu(x) cos(a), relu(x) sin(a)]`` with ``a = pi place / (2 length)``, twice the channels.

    ``phi(q_i) phi(k_j) = relu(q_i) relu(k_j) cos(pi (i - j) / (2 length))``, not negative for places below ``length``.

    Source: cosFormer: Rethinking Softmax in Attention, arXiv 2202.08791.
    """
    angle = (places.double() * (math.pi / 2 / length))[..., None, None]
    x = x.relu()
    return torch.cat([x * angle.cos().to(x.dtype), x * angle.sin().to(x.dtype)], dim=-1)
