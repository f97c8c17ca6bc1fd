"""One token a time step of a series, and dropping values at random."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises
from formwright.nn.positions import sine_table


@PARTS.register("step_embedding")
class StepEmbedding(Part):
    """One token a time step, each by itself, and where it stands: ``z_t = activation(W x_t + b) + p_t``.

    ``p`` is the fixed table of :func:`~formwright.nn.positions.sine_table`, which is computed and not saved.

    Args:
        in_dim: number of variates.
        dim: channels of a token.
        grid: the length of the series.
        activation: name of the activation.

    Shapes: ``(batch, time, variates)`` to ``(batch, time, dim)``.

    Raises:
        UserError: the series has another length or other variates.

    Source: Paying Attention to Astronomical Transients, arXiv 2105.06178, where it is a convolution of one step.
    """

    positions: Tensor
    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), any_grid=False, exemptions={"tokens": "takes a series, not tokens"}
    )

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...], activation: str = "relu") -> None:
        super().__init__()
        (self.length,) = grid
        self.linear = nn.Linear(in_dim, dim)
        self.activation = build_activation(activation)
        self.register_buffer("positions", sine_table(self.length, dim), persistent=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (RESIDUAL, None), "positions": (None, RESIDUAL)}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid

    def check_input(self, series: Tensor) -> None:
        expected = (self.length, self.linear.in_features)
        if series.ndim != 3 or tuple(series.shape[1:]) != expected:
            raise UserError(
                f"Expected series of shape (batch, {expected[0]}, {expected[1]}), got {tuple(series.shape)}; build the "
                "model for this length and these variates."
            )

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        self.check_input(x)
        return self.activation(self.linear(x)) + self.positions, context


@PARTS.register("dropout")
class Dropout(Part):
    """In training, zero for a share ``rate`` of all values and ``x / (1 - rate)`` for the others; ``x`` afterwards.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: Dropout, arXiv 1207.0580.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    def __init__(self, dim: int, *, rate: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(rate)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return self.dropout(x)
