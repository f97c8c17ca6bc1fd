"""Low-rank adaptation: a frozen dense layer and a small one beside it that learns."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LoRALinear(nn.Linear):
    """``y = x Wᵀ + b + (alpha / rank) dropout(x) Aᵀ Bᵀ``; it begins as the layer it takes the place of, as ``B = 0``.

    Args:
        linear: the layer to adapt; its weight and bias become this layer's.
        rank: rows of ``A`` and columns of ``B``.
        alpha: the numerator of the factor; ``rank`` if unset.
        dropout: share of what the small layer sees that is dropped in training.

    Shapes: ``(..., in)`` to ``(..., out)``. Source: LoRA, arXiv 2106.09685.
    """

    def __init__(self, linear: nn.Linear, *, rank: int = 16, alpha: float | None = None, dropout: float = 0.0) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.factor = 1.0 if alpha is None else alpha / rank
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*any channels"]) -> Float[Tensor, "*any out_channels"]:
        return super().forward(x) + self.factor * F.linear(F.linear(self.dropout(x), self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain layer that gives the same: ``W + (alpha / rank) B A``."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight + self.factor * self.lora_b @ self.lora_a)
        linear.bias = self.bias
        return linear


def freeze_except(model: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Let only the parameters ``trained`` of ``model`` learn."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
