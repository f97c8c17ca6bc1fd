"""One dense layer as a part."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_input
from formwright.nn.parts import PARTS, Axis, Part, Promises


@PARTS.register("dense")
class Dense(Part):
    """``y = activation(W x + b)`` on each token: BERT has one before its scores and one on its pooled token.

    Args:
        dim: channels in and out.
        activation: name of the activation.
        bias: whether there is a ``b``.

    Shapes: ``(..., dim)`` to the same.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    def __init__(self, dim: int, *, activation: str = "identity", bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=bias)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (Axis("residual"), Axis("residual"))}

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.linear, scale, shift)

    def forward(
        self, x: Float[Tensor, "*batch channels"], context: Context = EMPTY
    ) -> Float[Tensor, "*batch channels"]:
        return dense(self.linear, x, self.activation)
