"""Attention of few queries over a long cache, a block of keys at a time.

Of each block only three things are kept: the largest score, the sum of the weights relative to it, and the weighted sum
of the values. Two such results are merged exactly into that of both blocks, in any order, so that blocks may be
computed one after the other, side by side, or where the keys lie.

Source: Lean Attention: Hardware-Aware Scalable Attention Mechanism for the Decode-Phase of Transformers,
arXiv 2405.10480; the merge is that of Online normalizer calculation for softmax, arXiv 1805.02867.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.chunks import accumulation_type, without_autocast

#: Keys of a block.
BLOCK = 1024


class PartialAttention(NamedTuple):
    """Attention over some of the keys: all sums are relative to ``exp(maximum)``.

    Attributes:
        output: weighted sum of the values, ``(batch, queries, heads, values)``.
        maximum: largest score, ``(batch, queries, heads)``; minus infinity where no key was allowed.
        total: sum of the weights, ``(batch, queries, heads)``.
    """

    output: Float[Tensor, "batch queries heads values"]
    maximum: Float[Tensor, "batch queries heads"]
    total: Float[Tensor, "batch queries heads"]

    def merge(self, other: PartialAttention) -> PartialAttention:
        """The result over the keys of both."""
        maximum = torch.maximum(self.maximum, other.maximum)
        ours, theirs = _weight(self.maximum, maximum), _weight(other.maximum, maximum)
        output = self.output * ours[..., None] + other.output * theirs[..., None]
        return PartialAttention(output, maximum, self.total * ours + other.total * theirs)

    def normalized(self) -> Float[Tensor, "batch queries heads values"]:
        """The attention: weights add up to one; zero where no key was allowed."""
        return self.output / self.total.clamp(min=torch.finfo(self.total.dtype).tiny)[..., None]


def _weight(part: Tensor, whole: Tensor) -> Tensor:
    """``exp(part - whole)``, zero where nothing was seen."""
    return torch.where(part == -math.inf, torch.zeros_like(part), (part - whole).exp())


@without_autocast
def partial_attention(
    q: Float[Tensor, "batch queries heads channels"],
    k: Float[Tensor, "batch keys heads channels"],
    v: Float[Tensor, "batch keys heads values"],
    mask: Bool[Tensor, "batch #queries keys"] | None = None,
) -> PartialAttention:
    """Softmax attention over these keys, not yet divided by the sum of the weights.

    Args:
        q: queries; scores are ``q · k / sqrt(channels)``.
        k: keys.
        v: values.
        mask: true where a query may attend to a key.
    """
    dtype = accumulation_type(q.dtype)
    queries = q.to(dtype).transpose(1, 2) * q.shape[-1] ** -0.5
    scores = queries @ k.to(dtype).permute(0, 2, 3, 1)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -math.inf)
    maximum = scores.amax(-1)
    weights = (scores - torch.where(maximum == -math.inf, torch.zeros_like(maximum), maximum)[..., None]).exp()
    output = (weights @ v.to(dtype).transpose(1, 2)).transpose(1, 2)
    return PartialAttention(output, maximum.transpose(1, 2), weights.sum(-1).transpose(1, 2))


def blockwise_attention(
    q: Float[Tensor, "batch queries heads channels"],
    k: Float[Tensor, "batch keys heads channels"],
    v: Float[Tensor, "batch keys heads values"],
    mask: Bool[Tensor, "batch #queries keys"] | None = None,
    *,
    block: int = BLOCK,
) -> Float[Tensor, "batch queries heads values"]:
    """Softmax attention in blocks of ``block`` keys: the memory for scores does not grow with the cache.

    Raises:
        UserError: there is no key, or a block is empty.
    """
    if block < 1 or k.shape[1] < 1:
        raise UserError(f"Attention over {k.shape[1]} keys in blocks of {block} has nothing to do; both start at 1.")
    result: PartialAttention | None = None
    for start in range(0, k.shape[1], block):
        end = start + block
        part = partial_attention(q, k[:, start:end], v[:, start:end], None if mask is None else mask[..., start:end])
        result = part if result is None else result.merge(part)
    assert result is not None
    return result.normalized().to(v.dtype)
