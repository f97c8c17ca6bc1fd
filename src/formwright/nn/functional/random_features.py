"""Feature maps whose inner products are attention's weights, or stand in for them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from formwright.nn.functional.chunks import accumulation_type, without_autocast


def orthogonal_gaussian(features: int, channels: int) -> Float[Tensor, "features channels"]:
    """Rows of normal vectors' lengths, orthogonal within each group of ``channels``.

    Source: Rethinking Attention with Performers, arXiv 2009.14794.
    """
    groups = math.ceil(features / channels)
    directions = [torch.linalg.qr(torch.randn(channels, channels))[0].T for _ in range(groups)]
    lengths = torch.randn(features, channels).norm(dim=1, keepdim=True)
    return torch.cat(directions)[:features] * lengths


@without_autocast
def positive_softmax_exponents(
    x: Float[Tensor, "batch time heads channels"], projection: Float[Tensor, "features channels"], *, query: bool
) -> Float[Tensor, "batch time heads features"]:
    """The exponents of FAVOR+: ``w x' - |x'|² / 2`` with ``x' = x / channels^(1/4)`` for each row ``w``, in float32.

    Features are their exponentials over ``sqrt(features)``: ``E[phi(q) phi(k)] = exp(q k / sqrt(channels))``. Of a key
    of 64 channels with a deviation of 4 the exponents are about -64 ± 16, so that exponentials are left to
    :func:`~formwright.nn.functional.exponential_attention.exponential_attention`. Its quotient sees no factor of all
    features of a query, which is why those of queries come without ``|x'|² / 2``.

    Source: Rethinking Attention with Performers, arXiv 2009.14794.
    """
    x = x.to(accumulation_type(x.dtype)) * x.shape[-1] ** -0.25
    exponents = x @ projection.to(x.dtype).T
    return exponents if query else exponents.sub_(x.square().sum(-1, keepdim=True) / 2)


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
