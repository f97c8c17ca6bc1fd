"""Attention of tokens to learned parameter tokens, without the parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.attention import Tap

#: From the scores of a token with all parameter tokens, and a scale, to their weights.
Normalization = Callable[[Tensor, Tensor], Tensor]


def _unit(x: Tensor) -> Tensor:
    """``x / ||x||`` along the last axis; a row of zeros stays one."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, 1)


def l2_norm_gelu(scores: Tensor, scale: Tensor) -> Tensor:
    """``gelu(scale * s / ||s||)``."""
    return F.gelu(_unit(scores) * scale)


def gelu_l2_norm(scores: Tensor, scale: Tensor) -> Tensor:
    """``scale * gelu(s) / ||gelu(s)||``."""
    return _unit(F.gelu(scores)) * scale


def scaled_softmax(scores: Tensor, scale: Tensor) -> Tensor:
    """``scale² * softmax(s)``: weights of mean one at the usual scale."""
    return scores.softmax(-1) * scale.square()


NORMALIZATIONS: dict[str, Normalization] = {
    "l2_norm_gelu": l2_norm_gelu,
    "gelu_l2_norm": gelu_l2_norm,
    "softmax": scaled_softmax,
}


def pattention(
    x: Float[Tensor, "*tokens channels"],
    keys: Float[Tensor, "parameter_tokens channels"],
    values: Float[Tensor, "parameter_tokens out_channels"],
    scale: Float[Tensor, ""],
    normalization: Normalization = l2_norm_gelu,
    tap: Tap | None = None,
) -> Float[Tensor, "*tokens out_channels"]:
    """``y = normalization(x Kᵀ, scale) V``; ``scale`` is the square root of the number of parameter tokens.

    ``tap`` is shown the ``scores`` ``x Kᵀ`` and the ``weights`` that the normalization makes of them.
    """
    if tap is None:
        return normalization(F.linear(x, keys), scale) @ values
    return tap("weights", normalization(tap("scores", F.linear(x, keys)), scale)) @ values
