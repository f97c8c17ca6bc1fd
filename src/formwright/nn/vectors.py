"""From vectors, such as observations or the numbers of a regression, to tokens."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises


@PARTS.register("linear_embedding")
class LinearEmbedding(Part):
    """``y = W x + b`` on each vector.

    Args:
        in_dim: channels of a vector.
        dim: channels of a token.
        bias: whether there is a ``b``.

    Shapes: ``(batch, time, in_dim)`` to ``(batch, time, dim)``.
    """

    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), per_token=True, causal=True, exemptions={"tokens": "changes the width"}
    )

    def __init__(self, in_dim: int, dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, dim, bias=bias)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (RESIDUAL, None)}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid

    def check_input(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[-1] != self.linear.in_features:
            raise UserError(
                f"Expected vectors (batch, time, {self.linear.in_features}), and got shape {tuple(x.shape)}."
            )

    def forward(
        self, x: Float[Tensor, "batch time in_dim"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        return self.linear(x), context
