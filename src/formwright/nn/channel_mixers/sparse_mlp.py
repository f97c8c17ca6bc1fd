"""Channel mixers whose hidden layer is mostly zero."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.channel_mixers.mlp import MLP
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.dense import dense, known
from formwright.nn.functional.lookup import weighted_rows
from formwright.nn.parts import PARTS

#: A product with chosen rows costs some three times as much a multiply-accumulate as a dense one.
_WORTH = 4


@PARTS.register("top_k_mlp")
class TopKMLP(MLP):
    """``y = W2 top_k(relu(W1 x + b1)) + b2``: of each token's hidden values the ``k`` largest, the others zero.

    Gradients go through the kept values only. In inference the second product is taken with the kept columns alone
    where they are at most a quarter.

    Args:
        dim: channels in and out.
        k: hidden values that a token keeps.
        ratio: hidden width over ``dim``; ``hidden`` gives the width itself.
        bias: whether the dense layers have biases.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: ``k`` is less than one or more than the hidden width.

    Source: The Lazy Neuron Phenomenon, arXiv 2210.06313.
    """

    def __init__(
        self, dim: int, *, k: int = 16, ratio: float = 4.0, hidden: int | None = None, bias: bool = True
    ) -> None:
        super().__init__(dim, ratio=ratio, hidden=hidden, activation="relu", bias=bias)
        if not 1 <= k <= self.hidden:
            raise UserError(f"A token keeps between 1 and all {self.hidden} of its hidden values, got k = {k}.")
        self.k = k
        # The columns of W2 lie side by side in memory, as choosing some of them wants it.
        self.fc2.weight = nn.Parameter(self.fc2.weight.detach().t().contiguous().t())

    def kept(self, x: Float[Tensor, "batch *grid channels"]) -> tuple[Tensor, Tensor]:
        """The kept hidden values and where they are, each ``(batch, *grid, k)``."""
        hidden = dense(self.fc1, x, self.activation)
        values, places = hidden.topk(min(self.k, self.hidden), dim=-1, sorted=False)
        return values, places

    def weigh_columns(self, values: Tensor, places: Tensor) -> Float[Tensor, "batch *grid channels"]:
        """``W2 h + b2`` for hidden values that are ``values`` at ``places`` and zero elsewhere."""
        if not known(self.fc2):
            return dense(self.fc2, self._scattered(values, places))
        y = weighted_rows(self.fc2.weight.t(), places, values)
        return y if self.fc2.bias is None else y + self.fc2.bias

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        values, places = self.kept(x)
        few = _WORTH * values.shape[-1] <= self.hidden
        if few and not torch.is_grad_enabled() and not self.listened("hidden"):
            return self.weigh_columns(values, places)
        return dense(self.fc2, self.tap("hidden", self._scattered(values, places)))

    def _scattered(self, values: Tensor, places: Tensor) -> Float[Tensor, "batch *grid hidden"]:
        return values.new_zeros(*values.shape[:-1], self.hidden).scatter(-1, places, values)

    def extra_repr(self) -> str:
        return f"k={self.k}"
