"""Regression trees as tensors: every tree is walked at once, by as many gathers as the deepest one has levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, Part, Promises
from formwright.nn.series import put_back_statistics

#: Trees that are walked together, which bounds the memory.
_TOGETHER = 32


@PARTS.register("boosted_trees")
class BoostedTrees(Part):
    """The sum of regression trees of a table, and a share of its first column: ``y = a t_0 + b + sum_k tree_k(t)``.

    At a node of a tree a row goes to the left child if ``t[feature] <= threshold``, else to the right one, which stands
    next to it; a leaf is its own left child, and no value is above its threshold.

    Args:
        dim: columns of the table, those of all steps together.
        classes: the horizon, in steps.
        trees: how many there are.
        leaves: of a tree at most.
        depth: of a tree at most.

    Shapes: ``(batch, variates, horizon * columns)`` to ``(batch, horizon, variates)``; mean and deviation of
    ``context.statistics`` are put back.

    Raises:
        UserError: the columns do not divide among the steps.

    Source: Greedy Function Approximation: A Gradient Boosting Machine, Annals of Statistics 29 (5), 2001.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    base: Tensor
    first: Tensor
    uses: ClassVar[frozenset[str]] = frozenset({"statistics"})
    promises: ClassVar[Promises] = Promises(
        dimensions=(1,),
        exemptions={
            "tokens": "gives a forecast",
            "residual": "each column has a place of its own",
        },
    )

    def __init__(self, dim: int, classes: int, *, trees: int = 200, leaves: int = 31, depth: int = 6) -> None:
        super().__init__()
        if dim % classes:
            raise UserError(f"{dim} columns cannot be shared among {classes} steps; build as many for each step.")
        self.horizon, self.depth = classes, depth
        nodes = 2 * leaves - 1
        self.register_buffer("feature", torch.zeros(trees, nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.full((trees, nodes), torch.inf))
        self.register_buffer("child", torch.arange(nodes, dtype=torch.int32).repeat(trees, 1))
        self.value = nn.Parameter(torch.zeros(trees, nodes))
        self.register_buffer("base", torch.zeros(()))
        self.register_buffer("first", torch.zeros(()))

    def init_weights(self) -> None:
        """Nothing is known yet."""
        nn.init.zeros_(self.value)

    @torch.no_grad()
    def set_trees(self, trees: Sequence[Sequence[Tensor]], base: float, first: float) -> None:
        """Take over trees, each ``feature``, ``threshold``, ``child`` and ``value`` of nodes; the others give nothing.

        Raises:
            UserError: there are too many of them.
        """
        if len(trees) > len(self.feature):
            raise UserError(f"There is room for {len(self.feature)} trees, and {len(trees)} are given.")
        nodes = self.feature.shape[1]
        self.feature.zero_()
        self.threshold.fill_(torch.inf)
        self.child.copy_(torch.arange(nodes))
        self.value.zero_()
        for index, tree in enumerate(trees):
            for own, given in zip((self.feature, self.threshold, self.child, self.value), tree, strict=True):
                own[index, : len(given)] = given.to(own.dtype)
        self.base.fill_(base)
        self.first.fill_(first)

    def forward(
        self, x: Float[Tensor, "batch variates columns"], context: Context = EMPTY
    ) -> Float[Tensor, "batch horizon variates"]:
        table = x.reshape(*x.shape[:-1], self.horizon, x.shape[-1] // self.horizon)
        rows = table.flatten(0, 2)
        total = self.base + self.first * rows[:, 0]
        count, nodes = self.feature.shape
        for start in range(0, count, _TOGETHER):
            part = slice(start, min(start + _TOGETHER, count))
            feature, threshold = self.feature[part].flatten().long(), self.threshold[part].flatten()
            child, value = self.child[part].flatten().long(), self.value[part].flatten()
            root = torch.arange(part.stop - start, device=x.device) * nodes
            node = torch.zeros(rows.shape[0], part.stop - start, dtype=torch.long, device=x.device)
            for _ in range(self.depth):
                place = node + root
                right = rows.gather(1, feature[place]) > threshold[place]
                node = child[place] + right
            total = total + value[node + root].sum(1)
        forecast = total.view(*table.shape[:-1]).mT
        return put_back_statistics(forecast, context.statistics)
