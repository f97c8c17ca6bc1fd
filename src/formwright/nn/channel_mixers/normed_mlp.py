"""An MLP with a batch norm after each of its dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import fold_batch_norm, norm_axes
from formwright.nn.functional.batch_norm import batch_norm
from formwright.nn.parts import PARTS, Axis, Part, Promises


@PARTS.register("normed_mlp")
class NormedMLP(Part):
    """``y = relu(norm(W2 gelu(norm(W1 x + b1)) + b2))`` with batch norms: two dense layers after folding.

    Args:
        dim: channels in and out.
        ratio: hidden width over ``dim``; ``hidden`` gives the width itself.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: LMUFormer, arXiv 2402.04882, whose biases before the norms
    are kept as parameters although only inference can tell them from the norms' own.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    resizable: ClassVar[Mapping[str, str]] = {"hidden": "hidden"}
    taps: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(self, dim: int, *, ratio: float = 4.0, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = int(dim * ratio) if hidden is None else hidden
        self.fc1 = nn.Linear(dim, self.hidden)
        self.norm1: nn.BatchNorm1d | None = nn.BatchNorm1d(self.hidden)
        self.fc2 = nn.Linear(self.hidden, dim)
        self.norm2: nn.BatchNorm1d | None = nn.BatchNorm1d(dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        return {
            "fc1.weight": (hidden, residual),
            "fc2.weight": (residual, hidden),
            **(norm_axes("norm1", hidden) if self.norm1 is not None else {}),
            **(norm_axes("norm2", residual) if self.norm2 is not None else {}),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        hidden = self.fc1(x)
        hidden = F.gelu(hidden if self.norm1 is None else batch_norm(self.norm1, hidden, context.mask))
        y = self.fc2(self.tap("hidden", hidden))
        return F.relu(y if self.norm2 is None else batch_norm(self.norm2, y, context.mask))

    def fold(self) -> None:
        """Take the norms into the dense layers before them, in place."""
        if self.norm1 is not None and fold_batch_norm(self.fc1, self.norm1):
            self.norm1 = None
        if self.norm2 is not None and fold_batch_norm(self.fc2, self.norm2):
            self.norm2 = None
