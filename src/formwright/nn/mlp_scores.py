"""Numbers of every token by an MLP, such as the box of what a query found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_input
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises


@PARTS.register("mlp_scores")
class MLPScores(Part):
    """Numbers for every token by an MLP of three layers: ``W3 relu(W2 relu(W1 x + b1) + b2) + b3``.

    Args:
        dim: channels of the tokens.
        classes: how many numbers.
        hidden: width of both hidden layers; ``dim`` if unset.
        zero_init: whether ``W3`` starts at zero, so that what is added to the numbers decides alone at first.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, *grid, classes)``.

    Source: the boxes of End-to-End Object Detection with Transformers, arXiv 2005.12872; with ``zero_init`` those of
    Deformable DETR, arXiv 2010.04159.
    """

    promises: ClassVar[Promises] = Promises(
        per_token=True, causal=True, exemptions={"tokens": "gives numbers, not tokens"}
    )
    resizable: ClassVar[Mapping[str, str]] = {"hidden": "hidden"}
    input_layers: ClassVar[tuple[str, ...]] = ("fc1",)

    def __init__(self, dim: int, classes: int, *, hidden: int | None = None, zero_init: bool = False) -> None:
        super().__init__()
        self.zero_init = zero_init
        self.hidden = dim if hidden is None else hidden
        self.fc1 = nn.Linear(dim, self.hidden)
        self.fc2 = nn.Linear(self.hidden, self.hidden)
        self.fc3 = nn.Linear(self.hidden, classes)

    def init_weights(self) -> None:
        if self.zero_init:
            nn.init.zeros_(self.fc3.weight)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden = Axis("hidden")
        return {"fc1.weight": (hidden, RESIDUAL), "fc2.weight": (hidden, hidden), "fc3.weight": (None, hidden)}

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.fc1, scale, shift)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid classes"]:
        x = F.relu(dense(self.fc1, x))
        return dense(self.fc3, F.relu(dense(self.fc2, x)))
