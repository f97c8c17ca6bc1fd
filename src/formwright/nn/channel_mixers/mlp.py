"""Channel mixers made of dense layers."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.activations import SquaredReLU, StarReLU, build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import LinearNorm, linear_norm_axes
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, Part, Promises

_NORMED = {"cut": "the activation norms the hidden channels that are there, so one that is cut is missed in the norm"}


@PARTS.register("mlp")
class MLP(Part):
    """``y = W2 activation(W1 x + b1) + b2`` on each token.

    Args:
        dim: channels in and out.
        ratio: hidden width over ``dim``; ``hidden`` gives the width itself.
        activation: name of the activation, ``gelu`` if unset.
        bias: whether the dense layers have biases.
        dropout: share of hidden and output values that are dropped in training.

    Shapes: ``(batch, *grid, dim)`` to the same.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}
    taps: ClassVar[tuple[str, ...]] = ("hidden",)
    input_layers: ClassVar[tuple[str, ...]] = ("fc1",)
    output_layers: ClassVar[tuple[str, ...]] = ("fc2",)

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        hidden: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden = int(dim * ratio) if hidden is None else hidden
        self.fc1 = nn.Linear(dim, self.hidden, bias=bias)
        self.activation = build_activation(activation)
        self.fc2 = nn.Linear(self.hidden, dim, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else None
        if getattr(self.activation, "normalises", False):
            self.promise(exemptions=_NORMED)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        return {
            "fc1.weight": (hidden, residual),
            "fc2.weight": (residual, hidden),
        }

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.fc1, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.fc2, scale)

    def fold(self) -> None:
        """Take StarReLU's scale and bias into the dense layer after it, in place."""
        if not isinstance(self.activation, StarReLU) or self.dropout is not None:
            return
        if scale_input(self.fc2, self.activation.scale, self.activation.bias.expand(self.hidden)):
            self.activation = SquaredReLU()

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        x = self.tap("hidden", dense(self.fc1, x, self.activation))
        if self.dropout is None:
            return dense(self.fc2, x)
        return self.dropout(dense(self.fc2, self.dropout(x)))


@PARTS.register("glu")
class GatedMLP(Part):
    """``y = W3 (activation(W1 x) * W2 x)``: the gated linear unit; with ``silu`` it is SwiGLU.

    Args:
        dim: channels in and out.
        ratio: hidden width over ``dim``; ``hidden`` gives the width itself.
        activation: name of the activation.
        bias: whether the dense layers have biases.
        dropout: share of output values that are dropped in training.

    Source: GLU Variants Improve Transformer, arXiv 2002.05202. Shapes: ``(batch, *grid, dim)`` to the same.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}
    taps: ClassVar[tuple[str, ...]] = ("hidden",)
    input_layers: ClassVar[tuple[str, ...]] = ("gate", "up")
    output_layers: ClassVar[tuple[str, ...]] = ("down",)

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 8 / 3,
        hidden: int | None = None,
        activation: str = "silu",
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden = int(dim * ratio) if hidden is None else hidden
        self.gate = nn.Linear(dim, self.hidden, bias=bias)
        self.up = nn.Linear(dim, self.hidden, bias=bias)
        self.activation = build_activation(activation)
        self.down = nn.Linear(self.hidden, dim, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        return {
            "gate.weight": (hidden, residual),
            "up.weight": (hidden, residual),
            "down.weight": (residual, hidden),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        hidden = self.tap("hidden", dense(self.gate, x, self.activation) * dense(self.up, x))
        y = dense(self.down, hidden)
        return y if self.dropout is None else self.dropout(y)


@PARTS.register("activated_product_glu")
class ActivatedProductMLP(GatedMLP):
    """``y = W3 activation(W1 x * W2 x)``: what the released code of MatFormer computes where its paper has a GLU.

    Source: the authors' code of MatFormer, arXiv 2310.07707. Shapes: ``(batch, *grid, dim)`` to the same.
    """

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return dense(self.down, self.tap("hidden", self.activation(dense(self.gate, x) * dense(self.up, x))))


@PARTS.register("batch_norm_mlp")
class BatchNormMLP(Part):
    """``y = norm(W2 activation(norm(W1 x)))`` with batch norms; two dense layers after folding.

    Args:
        dim: channels in and out.
        ratio: hidden width over ``dim``; ``hidden`` gives the width itself.
        activation: name of the activation, ``relu`` if unset.
        norm_weight: initial weight of the last norm; at 0 the residual branch starts at zero.

    Shapes: ``(batch, *grid, dim)`` to the same; in training, padding has no part in the statistics. Source:
    EfficientViT, arXiv 2305.07027.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}
    taps: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 2.0,
        hidden: int | None = None,
        activation: str = "relu",
        norm_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.hidden = int(dim * ratio) if hidden is None else hidden
        self.fc1 = LinearNorm(dim, self.hidden)
        self.activation = build_activation(activation)
        self.fc2 = LinearNorm(self.hidden, dim, norm_weight=norm_weight)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        return {**linear_norm_axes("fc1", hidden, residual), **linear_norm_axes("fc2", residual, hidden)}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        hidden = self.tap("hidden", self.activation(self.fc1(x, context.mask)))
        return self.fc2(hidden, context.mask)
