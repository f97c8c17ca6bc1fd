"""Sums of table rows, and the hashing that chooses them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def weighted_rows(
    table: Float[Tensor, "rows channels"],
    indices: Int[Tensor, "*tokens chosen"],
    weights: Float[Tensor, "*tokens chosen"],
) -> Float[Tensor, "*tokens channels"]:
    """``y = sum_j weights_j table[indices_j]``, one pass over the chosen rows and no copy of them."""
    *tokens, chosen = indices.shape
    rows = F.embedding_bag(
        indices.reshape(-1, chosen), table, per_sample_weights=weights.reshape(-1, chosen), mode="sum"
    )
    return rows.view(*tokens, table.shape[-1])


def sign_addresses(z: Float[Tensor, "*tokens tables bits"]) -> Int[Tensor, "*tokens tables"]:
    """The rows that each token has in each table: the signs of its chunks as binary numbers.

    A bit is one where ``z >= 0``; the first is the most significant. Tables of ``2^bits`` rows lie one after the other,
    and a row's number counts from the first of them.
    """
    tables, bits = z.shape[-2:]
    powers = 2 ** torch.arange(bits - 1, -1, -1, device=z.device)
    offsets = 2**bits * torch.arange(tables, device=z.device)
    return ((z >= 0) * powers).sum(-1) + offsets


def vertex_probability(z: Float[Tensor, "*tokens tables bits"]) -> Float[Tensor, "*tokens tables"]:
    """``1 / prod_i (1 + exp(-2 |z_i|))``: the share of the nearest vertex ``sign(z)`` in a softmax over all ``2^bits``.

    The softmax of ``z · v`` over the vertices ``v`` of the cube of side two. Source: MemoryFormer, arXiv 2411.12992.
    """
    return torch.exp(-F.softplus(-2 * z.abs()).sum(-1))


def scaled_vertex_probability(z: Float[Tensor, "*tokens tables bits"]) -> Float[Tensor, "*tokens tables"]:
    """:func:`vertex_probability` times ``sum_i |z_i|``: what MemoryFormer's released code computes instead."""
    return z.abs().sum(-1) * vertex_probability(z)
