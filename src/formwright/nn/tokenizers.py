"""Tokenizers of several layers: convolutions that make tokens of small inputs."""

from __future__ import annotations

import itertools
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import CONVOLUTIONS, to_channels_last
from formwright.nn.embeddings import channels_last_memory
from formwright.nn.functional.convolution import convolved_side
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises

_MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_POOL = {"kernel": 3, "stride": 2, "padding": 1}


@PARTS.register("convolutional_tokenizer")
class ConvolutionalTokenizer(Part):
    """``layers`` times ``x = max_pool(activation(conv(x)))``; the pooling (3, stride 2) halves the grid each time.

    Overlapping patches, whose places a small Transformer need not learn from scratch. Without pooling and activation
    it is the plain patch embedding, started by He's rule.

    Args:
        in_dim: channels of the input.
        dim: channels of the tokens.
        layers: number of convolutions.
        hidden: channels between them.
        kernel: side of the convolutions.
        stride: their stride; ``max(1, kernel // 2 - 1)`` if unset.
        padding: zeros around their input; ``max(1, kernel // 2)`` if unset.
        activation: name of the activation.
        pooling: whether each convolution is followed by max pooling.
        bias: whether the convolutions have biases.

    Shapes: ``(batch, in_dim, *size)`` to ``(batch, *grid, dim)``; a layer makes ``side`` to
    ``(side + 2 padding - kernel) // stride + 1``, and its pooling ``n`` to ``(n - 1) // 2 + 1``.

    Raises:
        UserError: there is no layer, or the activation is unknown.

    Source: Escaping the Big Data Paradigm with Compact Transformers, arXiv 2104.05704.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "takes the input, not tokens"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        layers: int = 1,
        hidden: int = 64,
        kernel: int = 3,
        stride: int | None = None,
        padding: int | None = None,
        activation: str = "relu",
        pooling: bool = True,
        bias: bool = False,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"A convolutional tokenizer needs at least one layer, got {layers}.")
        self.kernel, self.dimensions = kernel, dimensions
        self.stride = max(1, kernel // 2 - 1) if stride is None else stride
        self.padding = max(1, kernel // 2) if padding is None else padding
        widths = [in_dim, *[hidden] * (layers - 1), dim]
        self.convolutions = nn.ModuleList(
            CONVOLUTIONS[dimensions](narrow, wide, kernel, self.stride, self.padding, bias=bias)
            for narrow, wide in itertools.pairwise(widths)
        )
        self.activation = build_activation(activation)
        self.pool = _MAX_POOLS[dimensions](_POOL["kernel"], _POOL["stride"], _POOL["padding"]) if pooling else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        last = len(self.convolutions) - 1
        return {f"convolutions.{last}.weight": (RESIDUAL, *[None] * (1 + self.dimensions))}

    def init_weights(self) -> None:
        """He's rule, as the authors start it: ReLU follows, and no norm repairs the scale."""
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            nn.init.kaiming_normal_(convolution.weight)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        for _ in self.convolutions:
            grid = tuple(convolved_side(side, self.kernel, self.stride, self.padding) for side in grid)
            if self.pool is not None:
                grid = tuple(convolved_side(side, **_POOL) for side in grid)
        return grid

    def forward(
        self, x: Float[Tensor, "batch channels *size"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        x = channels_last_memory(x)
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
            if self.pool is not None:
                x = self.pool(x)
        return to_channels_last(x), context
