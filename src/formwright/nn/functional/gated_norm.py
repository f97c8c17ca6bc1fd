"""The norm of gated recurrent mixers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.precision import widened
from formwright.nn.functional.rms import rms_norm


def gated_rms_norm(
    x: Float[Tensor, "*tokens channels"],
    gate: Float[Tensor, "*tokens channels"],
    weight: Float[Tensor, " channels"],
    *,
    groups: int = 1,
    eps: float = 1e-5,
) -> Float[Tensor, "*tokens channels"]:
    """``rms_norm(x * silu(gate)) * weight``: gate first, then norm, statistics over each of ``groups`` of channels.

    Source: the layer of Mamba-2, Transformers are SSMs, arXiv 2405.21060.
    """
    y = widened(x) * F.silu(widened(gate))
    if groups == 1:
        y = rms_norm(y, eps=eps)
    else:
        y = rms_norm(y.reshape(*y.shape[:-1], groups, y.shape[-1] // groups), eps=eps).reshape(y.shape)
    return y.to(x.dtype) * weight
