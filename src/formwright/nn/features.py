"""The head of a model without scores: what its tokens say, one by one or pooled."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import ChainSpec, ImageInput, PartSpec, part


def with_classes(specification: ChainSpec, classes: int) -> ChainSpec:
    """The classifier that a model becomes: its head for so many classes, or one in place of its scores of tokens.

    A model of language is read at its last token, one that fills in masked tokens by the mean over them.
    """
    if specification.head.name not in ("features", "token_scores"):
        return dataclasses.replace(specification, classes=classes)
    options = dict(specification.head.options)
    if specification.head.name == "token_scores":
        causal = specification.task == "language-modelling"
        last = {"pool": part("last_token_pool")} | ({"norm": options["norm"]} if "norm" in options else {})
        options = last if causal else {"pool": part("mean_pool")}
    if "pool" not in options and any(entry.name == "class_token" for entry in specification.stages[0].entry):
        options["pool"] = part("class_token_pool")
    kind = "image" if isinstance(specification.input, ImageInput) else "text"
    head = part("classifier", **options)
    return dataclasses.replace(specification, classes=classes, head=head, task=f"{kind}-classification")


@PARTS.register("features")
class Features(Part):
    """``pooled_norm(pool(norm(x)))``: what a classifier would see; the normed tokens themselves where nothing pools.

    Args:
        dim: channels of the tokens.
        classes: the channels that come out, which are those of the tokens.
        norm: norm of the tokens, before pooling.
        pool: how tokens become one vector.
        pooled_norm: norm of that vector.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, dim)``, or to ``(batch, *grid, dim)`` without ``pool``.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "gives features, not tokens"})

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        norm: PartSpec | None = None,
        pool: PartSpec | None = None,
        pooled_norm: PartSpec | None = None,
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else build_part(norm, dim)
        self.pool = None if pool is None else build_part(pool, dim)
        self.pooled_norm = None if pooled_norm is None else build_part(pooled_norm, dim)
        if pool is None:
            alone = self.norm is None or self.norm.promises.per_token
            self.promise(per_token=alone, causal=alone)

    def inner_axes(self) -> InnerAxes:
        return sharing("norm", "pool", "pooled_norm")

    def forward(self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY) -> Float[Tensor, "batch *_"]:
        if self.norm is not None:
            x = self.norm(x, context)
        if self.pool is not None:
            x = self.pool(x, context)
        return x if self.pooled_norm is None else self.pooled_norm(x)
