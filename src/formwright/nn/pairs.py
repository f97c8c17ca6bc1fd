"""Two texts in one input, read by one encoder, and classifiers with a hidden layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.embeddings import TokenEmbedding
from formwright.nn.part import PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import PartSpec, part

_MEAN = part("mean_pool")


@PARTS.register("pair_embedding")
class PairEmbedding(TokenEmbedding):
    """Token embedding of two texts that stand one behind the other: the encoder sees twice as many rows.

    Shapes: ids ``(batch, 2 * time)`` to ``(2 * batch, time, dim)``, the first texts of all rows before the second ones.

    Raises:
        UserError: the number of ids is odd, or an id is not in the vocabulary.
    """

    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), exemptions={"tokens": "takes ids, and makes two rows of one"}
    )

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return (grid[0] // 2,)

    def check_input(self, ids: Tensor) -> None:
        super().check_input(ids)
        if ids.shape[1] % 2:
            raise UserError(f"Two texts of equal length are expected in a row, and {ids.shape[1]} ids came; pad one.")

    def forward(
        self, ids: Int[Tensor, "batch time"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "rows time dim"], Context]:
        mask = None if context.mask is None else torch.cat(context.mask.chunk(2, dim=1))
        return super().forward(torch.cat(ids.chunk(2, dim=1)), context.replace(mask=mask))


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
        """One vector a row, ``(rows, dim)``."""
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
    """Scores of pairs from what their texts are pooled to: ``W3 relu(W2 relu(W1 [a, b, a * b, a - b]))``, with biases.

    The hidden widths are ``hidden`` and half of it.

    Args:
        dim: channels of the tokens.
        classes: number of scores.
        hidden: width of the first hidden layer.
        norm: norm of the tokens, before pooling.
        pool: how tokens become one vector.

    Shapes: ``(2 * batch, *grid, dim)``, the first texts before the second ones, to ``(batch, classes)``. Source: Long
    Range Arena, arXiv 2011.04006 (its "NLI" interaction).
    """

    promises: ClassVar[Promises] = Promises(
        batch_invariant=False, exemptions={"tokens": "gives one vector for two rows"}
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

    def forward(
        self, x: Float[Tensor, "rows *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch classes"]:
        a, b = self.pooled(x, context).chunk(2)
        pair = torch.cat([a, b, a * b, a - b], dim=-1)
        return self.fc3(self.fc2(self.fc1(pair).relu()).relu())
