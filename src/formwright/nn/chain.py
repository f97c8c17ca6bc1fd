"""Parts one after the other, as one part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.norms import AffineNorm
from formwright.nn.part import PARTS, InnerAxes, Part, Promises, State, build_part, sharing
from formwright.nn.specification import PartSpec


@PARTS.register("chain")
class Chain(Part):
    """``y = part_n(... part_2(part_1(x)))``: what a single residual branch holds when it does several things.

    ConvNeXt's branch, for one: a depthwise convolution, a norm and an MLP under one residual connection.

    Args:
        dim: channels in and out of every part.
        parts: specifications of parts that map tokens to tokens on the same grid.
        grid: the grid that parts with tables are made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    It uses the facts of the context that every part uses which they concern, and promises what all its parts promise.

    Raises:
        UserError: there is no part.
    """

    def __init__(self, dim: int, *, parts: Sequence[PartSpec], grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        if not parts:
            raise UserError("A chain needs at least one part.")
        self.dim, self.grid = dim, grid
        built: list[Part] = [build_part(spec, dim, grid=grid) for spec in parts]
        self.parts = nn.ModuleList(built)
        self.promises = _common_promises([part.promises for part in built])  # type: ignore[misc]
        concerned = [part.uses for part in built if not part.promises.per_token]
        self.uses = frozenset.intersection(*concerned) if concerned else frozenset()  # type: ignore[misc]

    def inner_axes(self) -> InnerAxes:
        return sharing(*(f"parts.{index}" for index in range(len(self.parts))))

    def build(self, slot: str, spec: PartSpec) -> Part:
        """Another part for what is called ``slot``."""
        return build_part(spec, self.dim, grid=self.grid)

    def absorb_input(self, scale: Tensor, shift: Tensor | None) -> bool:
        return self.parts[0].absorb_input(scale, shift)  # type: ignore[operator]

    def absorb_output(self, scale: Tensor) -> bool:
        return self.parts[-1].absorb_output(scale)  # type: ignore[operator]

    def fold(self) -> None:
        """Take the weights of norms into the parts that follow them, in place."""
        for norm, part in itertools.pairwise(self.parts):
            if isinstance(norm, AffineNorm):
                norm.give_weights_to(part)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return {
            f"{index}.{name}": tensor
            for index, part in enumerate(self.parts)
            for name, tensor in part.init_state(batch, capacity, device=device, dtype=dtype).items()  # type: ignore[operator]
        }

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        after: State = {}
        for index, part in enumerate(self.parts):
            prefix = f"{index}."
            own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            x, own = part.stream(x, {**own, "length": state["length"]}, context)  # type: ignore[operator]
            after |= {f"{prefix}{name}": tensor for name, tensor in own.items() if name != "length"}
        return x, after

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        for part in self.parts:
            x = part(x, context)
        return x


def _common_promises(promises: Sequence[Promises]) -> Promises:
    """What all of them promise; exemptions stay with the parts that have them."""
    dimensions = set(promises[0].dimensions).intersection(*(each.dimensions for each in promises))
    return Promises(
        dimensions=tuple(sorted(dimensions)),
        any_grid=all(each.any_grid for each in promises),
        batch_invariant=all(each.batch_invariant for each in promises),
        per_token=all(each.per_token for each in promises),
        causal=all(each.causal for each in promises),
        multiple=math.lcm(*(each.multiple for each in promises)),
    )
