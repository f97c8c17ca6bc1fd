"""Squeeze-and-excitation: channels weighted by what the whole grid holds."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.heads import MeanPool
from formwright.nn.parts import PARTS, Axis, Part


@PARTS.register("squeeze_excite")
class SqueezeExcite(Part):
    """``y = x * sigmoid(W2 relu(W1 mean(x) + b1) + b2)``, the mean over all real tokens.

    Args:
        dim: channels in and out.
        ratio: hidden width over ``dim``; ``hidden`` gives the width itself.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: Squeeze-and-Excitation Networks, arXiv 1709.01507.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}
    taps: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(self, dim: int, *, ratio: float = 0.25, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = max(1, int(dim * ratio)) if hidden is None else hidden
        self.pool = MeanPool(dim)
        self.fc1 = nn.Linear(dim, self.hidden)
        self.fc2 = nn.Linear(self.hidden, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        return {
            "fc1.weight": (hidden, residual),
            "fc2.weight": (residual, hidden),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        hidden = self.tap("hidden", F.relu(self.fc1(self.pool(x, context))))
        gate = self.fc2(hidden).sigmoid()
        return x * gate.view(x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])
