"""Classifiers with a hidden layer: of one text, and of two that are compared."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import PartSpec, part

_MEAN = part("mean_pool")


class _HiddenClassifier(Part):
    """Pools normed tokens; a subclass has the layers after that."""

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid"})

    def __init__(self, dim: int, *, norm: PartSpec | None, pool: PartSpec) -> None:
        super().__init__()
        self.norm = None if norm is None else build_part(norm, dim)
        self.pool = build_part(pool, dim)

    def inner_axes(self) -> InnerAxes:
        return sharing("norm", "pool")

    def pooled(self, x: Tensor, context: Context = EMPTY) -> Tensor:
        """One vector per sample, ``(batch, dim)``."""
        return self.pool(x if self.norm is None else self.norm(x, context), context)


@PARTS.register("hidden_classifier")
class HiddenClassifier(_HiddenClassifier):
    """``logits = W2 relu(W1 pool(norm(x)) + b1) + b2``: the head of the Long Range Arena.

    Args:
        dim: channels of the tokens.
        classes: number of scores.
        hidden: width of the hidden layer.
        norm: norm of the tokens, before pooling.
        pool: how tokens become one vector.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, classes)``. Source: Long Range Arena, arXiv 2011.04006.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "gives one vector a sample"})

    def __init__(
        self, dim: int, classes: int, *, hidden: int, norm: PartSpec | None = None, pool: PartSpec = _MEAN
    ) -> None:
        super().__init__(dim, norm=norm, pool=pool)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"fc1.weight": (None, RESIDUAL)}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch classes"]:
        return self.fc2(self.fc1(self.pooled(x, context)).relu())


@PARTS.register("pair_classifier")
class PairClassifier(_HiddenClassifier):
    """Scores of pairs of vectors: ``W3 relu(W2 relu(W1 [a, b, a * b, a - b]))``, with biases.

    ``a`` and ``b`` are what :meth:`pooled` makes of the tokens of each; the hidden widths are ``hidden`` and its half.

    Args:
        dim: channels of the tokens.
        classes: number of scores.
        hidden: width of the first hidden layer.
        norm: norm of the tokens, before pooling.
        pool: how tokens become one vector.

    Shapes: ``(batch, 2, dim)`` to ``(batch, classes)``.

    Raises:
        UserError: not two vectors came for each sample.

    Source: Long Range Arena, arXiv 2011.04006 (its "NLI" interaction).
    """

    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), any_grid=False, exemptions={"tokens": "gives scores of two vectors"}
    )

    def __init__(
        self, dim: int, classes: int, *, hidden: int, norm: PartSpec | None = None, pool: PartSpec = _MEAN
    ) -> None:
        super().__init__(dim, norm=norm, pool=pool)
        self.fc1 = nn.Linear(4 * dim, hidden)
        self.fc2 = nn.Linear(hidden, hidden // 2)
        self.fc3 = nn.Linear(hidden // 2, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"fc1.weight": (None, Axis("residual", repeats=4))}

    def forward(self, x: Float[Tensor, "batch 2 dim"], context: Context = EMPTY) -> Float[Tensor, "batch classes"]:
        if x.ndim != 3 or x.shape[1] != 2:
            raise UserError(f"Two vectors per sample are compared, (batch, 2, dim); got {tuple(x.shape)}.")
        a, b = x.unbind(1)
        pair = torch.cat([a, b, a * b, a - b], dim=-1)
        return self.fc3(self.fc2(self.fc1(pair).relu()).relu())
