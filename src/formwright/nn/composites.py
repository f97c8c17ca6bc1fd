"""Parts made of parts: one after the other, blocks within a branch, side by side, and along one axis at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, FACTS, OFFERS, Context, on_tokens
from formwright.nn.frame import Block
from formwright.nn.norms import AffineNorm
from formwright.nn.parts import PARTS, InnerAxes, Part, Promises, State, build_part, settled, sharing
from formwright.nn.specification import BlockSpec, PartSpec
from formwright.nn.streaming import LENGTH, Streams, initial_state


class Composite(Part):
    """A part made of parts: it promises what all of them promise, honours what all honour, takes what one takes."""

    def _join(self, parts: Iterable[Part]) -> None:
        """Say in ``promises`` and ``uses`` what the parts together can be held to."""
        parts = list(parts)
        self.promises = _common_promises([part.promises for part in parts])  # type: ignore[misc]
        mixing = [part.uses for part in parts if not part.promises.per_token]
        honoured = frozenset.intersection(*mixing) if mixing else frozenset()
        taken = frozenset().union(*(part.uses for part in parts))
        self.uses = (honoured & frozenset(FACTS)) | (taken & frozenset(OFFERS))  # type: ignore[misc]

    def inner_axes(self) -> InnerAxes:
        lists = [(name, parts) for name, parts in self.named_children() if isinstance(parts, nn.ModuleList)]
        return sharing(*(f"{name}.{index}" for name, parts in lists for index in range(len(parts))))

    def named_parts(self) -> Iterator[tuple[str, Part]]:
        """The parts that the next tokens pass through, by name, in order."""
        raise TypeError(f"{type(self).__name__} does not name its parts.")

    def step(self, x: Tensor, streams: Streams, context: Context) -> Tensor:
        """The next tokens after all parts."""
        raise TypeError(f"{type(self).__name__} does not say how its parts follow each other.")

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return self.begin(batch, capacity, EMPTY, device=device, dtype=dtype)

    def begin(
        self,
        batch: int,
        capacity: int,
        context: Context,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        state = initial_state(self.named_parts(), batch, capacity, context, device=device, dtype=dtype)
        return {name: tensor for name, tensor in state.items() if name != LENGTH}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        streams = Streams(state)
        x = self.step(x, streams, settled(self, context))
        return x, {name: tensor for name, tensor in streams.state(0, None).items() if name != LENGTH}

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        streams = Streams(state)
        return all(part.remembers(streams.of(path), length) for path, part in self.named_parts())


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


def _build_all(dim: int, parts: Sequence[PartSpec], grid: tuple[int, ...] | None, what: str) -> nn.ModuleList:
    if not parts:
        raise UserError(f"A {what} needs at least one part.")
    return nn.ModuleList(build_part(spec, dim, grid=grid) for spec in parts)


@PARTS.register("chain")
class PartChain(Composite):
    """``y = part_n(... part_2(part_1(x)))``: what a single residual branch holds when it does several things.

    ConvNeXt's branch, for one: a depthwise convolution, a norm and an MLP under one residual connection.

    Args:
        dim: channels in and out of every part.
        parts: specifications of parts that map tokens to tokens on the same grid.
        grid: the grid that parts with tables are made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: there is no part.
    """

    def __init__(self, dim: int, *, parts: Sequence[PartSpec], grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.dim, self.grid = dim, grid
        self.parts = _build_all(dim, parts, grid, "chain")
        self._join(self.parts)  # type: ignore[arg-type]

    def build_slot(self, slot: str, spec: PartSpec) -> Part:
        """Another part for what is called ``slot``."""
        return build_part(spec, self.dim, grid=self.grid)

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return self.parts[0].fold_scale_before(scale, shift)  # type: ignore[operator]

    def fold_scale_after(self, scale: Tensor) -> bool:
        return self.parts[-1].fold_scale_after(scale)  # type: ignore[operator]

    def fold(self) -> None:
        """Take the weights of norms into the parts that follow them, in place."""
        for norm, part in itertools.pairwise(self.parts):
            if isinstance(norm, AffineNorm):
                norm.fold_into(part)

    def named_parts(self) -> Iterator[tuple[str, Part]]:
        yield from self.parts.named_children()  # type: ignore[misc]

    def step(self, x: Tensor, streams: Streams, context: Context) -> Tensor:
        for name, part in self.named_parts():
            x = streams.step(name, part, x, context)
        return x

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        context = settled(self, context)
        for part in self.parts:
            x = part(x, context)
        return x


@PARTS.register("group")
class Group(Composite):
    """``y = parts(blocks(x))``: blocks of residual branches, then plain parts, within one residual branch.

    The residual group of restoration networks, for one: attention blocks and a convolution under one residual
    connection.

    Args:
        dim: channels in and out.
        blocks: the blocks, one specification each.
        parts: parts behind the blocks, one after the other.
        grid: the grid that parts with tables are made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: there is no block, or a block in it merges or drops tokens.

    Source: residual groups as in Image Super-Resolution Using Very Deep Residual Channel Attention Networks, arXiv
    1807.02758.
    """

    def __init__(
        self,
        dim: int,
        *,
        blocks: Sequence[BlockSpec],
        parts: Sequence[PartSpec] = (),
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if not blocks:
            raise UserError("A group needs at least one block; parts alone are a chain.")
        # The grid is asked for by parts with tables alone; a group without one can hold none of them.
        self.blocks = nn.ModuleList(Block(block, dim, grid or ()) for block in blocks)
        self.parts = nn.ModuleList(build_part(spec, dim, grid=grid) for spec in parts)
        branches = [branch for block in self.blocks for branch in block.branches]  # type: ignore[union-attr]
        if any(branch.after is not None for branch in branches):
            raise UserError("A group keeps its tokens: merge or drop them behind a branch of the stage.")
        self._join(part for part in self.modules() if isinstance(part, Part) and part is not self)

    def named_parts(self) -> Iterator[tuple[str, Part]]:
        for b, block in enumerate(self.blocks):
            yield from block.parts(f"blocks.{b}")  # type: ignore[operator]
        for p, part in enumerate(self.parts):
            yield f"parts.{p}", part  # type: ignore[misc]

    def step(self, x: Tensor, streams: Streams, context: Context) -> Tensor:
        for b, block in enumerate(self.blocks):
            x = block.stream(x, f"blocks.{b}", streams, context)  # type: ignore[operator]
        for p, part in enumerate(self.parts):
            x = streams.step(f"parts.{p}", part, x, context)  # type: ignore[arg-type]
        return x

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        context = settled(self, context)
        for block in self.blocks:
            x, _ = block(x, context)
        for part in self.parts:
            x = part(x, context)
        return x


@PARTS.register("parallel")
class Parallel(Composite):
    """``y = part_1(x) + ... + part_n(x)``: several parts side by side on the same tokens.

    Args:
        dim: channels in and out of every part.
        parts: specifications of parts that map tokens to tokens on the same grid.
        grid: the grid that parts with tables are made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: there is no part.
    """

    def __init__(self, dim: int, *, parts: Sequence[PartSpec], grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.parts = _build_all(dim, parts, grid, "sum of parallel parts")
        self._join(self.parts)  # type: ignore[arg-type]

    def named_parts(self) -> Iterator[tuple[str, Part]]:
        yield from self.parts.named_children()  # type: ignore[misc]

    def step(self, x: Tensor, streams: Streams, context: Context) -> Tensor:
        outputs = [streams.step(name, part, x, context) for name, part in self.named_parts()]
        return torch.stack(outputs).sum(0)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        context = settled(self, context)
        first, *others = self.parts
        y = first(x, context)
        for part in others:
            y = y + part(x, context)
        return y


@PARTS.register("each")
class Each(Part):
    """A part for the entries of one axis of the grid, one by one: the axis becomes part of the batch.

    Frames of a video, time steps of a spiking network: ``y[:, i] = part(x[:, i])`` for every ``i`` along ``axis``.

    Args:
        dim: channels in and out.
        part: what each entry passes through.
        axis: which axis of the grid, from 0.
        grid: the grid that the whole is made for.

    Shapes: ``(batch, *grid, dim)`` to the same. A condition of one vector per sample holds for all its entries, and so
    does a memory; of one per token, each entry has its own.

    Raises:
        UserError: the grid has no such axis.
    """

    promises: ClassVar[Promises] = Promises(dimensions=(2, 3))

    def __init__(self, dim: int, *, part: PartSpec, axis: int = 0, grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        if axis < 0 or (grid is not None and axis >= len(grid)):
            raise UserError(f"A grid of {len(grid or ())} axes has no axis {axis}; axes count from 0.")
        self.axis = axis
        inner = None if grid is None else (*grid[:axis], *grid[axis + 1 :])
        self.part: Part = build_part(part, dim, grid=inner)
        promises = self.part.promises
        self.promise(
            dimensions=tuple(d + 1 for d in promises.dimensions if d < 3),
            any_grid=promises.any_grid,
            batch_invariant=promises.batch_invariant,
            per_token=promises.per_token,
            multiple=promises.multiple,
        )
        self.uses = self.part.uses & frozenset({"mask", "condition", "memory", "memory_mask"})  # type: ignore[misc]

    def inner_axes(self) -> InnerAxes:
        return sharing("part")

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        batch, entries = x.shape[0], x.shape[1 + self.axis]
        moved = x.movedim(1 + self.axis, 1)

        def repeated(offer: Tensor | None) -> Tensor | None:
            return None if offer is None else offer.repeat_interleave(entries, dim=0)

        condition = context.condition
        if condition is None or condition.ndim == 2:
            condition = repeated(condition)
        else:
            condition = on_tokens(condition, x).movedim(1 + self.axis, 1).flatten(0, 1)
        inner = settled(self, context).replace(
            mask=None if context.mask is None else context.mask.movedim(1 + self.axis, 1).flatten(0, 1),
            condition=condition,
            memory=repeated(context.memory),
            memory_mask=repeated(context.memory_mask),
        )
        y = self.part(moved.flatten(0, 1), inner)
        return y.reshape(batch, entries, *y.shape[1:]).movedim(1, 1 + self.axis)


@PARTS.register("flattened")
class Flattened(Part):
    """A part for tokens on one axis, on any grid: the places follow each other row by row.

    How a mixer of sequences reads a picture or a volume. Class tokens, which have no place, are read last: so a causal
    part lets them see every place.

    Args:
        dim: channels in and out.
        part: what the tokens pass through.
        grid: the grid that the whole is made for.

    Shapes: ``(batch, *grid, dim)`` to the same; the part takes ``(batch, places, dim)``, the real ones first.

    Raises:
        UserError: the part does not take tokens on one axis.

    Source: as Mamba reads feature maps in U-Mamba, arXiv 2401.04722.
    """

    settles: ClassVar[frozenset[str]] = frozenset({"prefix", "grid"})

    def __init__(self, dim: int, *, part: PartSpec, grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.part: Part = build_part(part, dim, grid=None if grid is None else (math.prod(grid),))
        promises = self.part.promises
        if 1 not in promises.dimensions:
            raise UserError(
                f"Part {part.name!r} does not take tokens on one axis, so a grid cannot be flattened for it."
            )
        self.promise(any_grid=promises.any_grid, batch_invariant=promises.batch_invariant, per_token=promises.per_token)
        passed = self.part.uses & {"mask", "condition", "memory", "memory_mask"}
        self.uses = passed | {"prefix", "grid"}  # type: ignore[misc]

    def inner_axes(self) -> InnerAxes:
        return sharing("part")

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        context = settled(self, context)
        if context.prefix:
            return self._prefixed(x, context)
        if context.grid is not None:
            context = context.replace(grid=None)
        tokens, condition = x.flatten(1, -2), context.condition
        if condition is not None and condition.ndim > 2:
            condition = condition.flatten(1, -2)
        if context.mask is None:
            if condition is not context.condition:
                context = context.replace(condition=condition)
            return self.part(tokens, context).view(x.shape)
        # Padding lies at the end of every row of the grid, and belongs at the end of the sequence.
        mask, order = context.mask.flatten(1).to(torch.uint8).sort(dim=1, descending=True, stable=True)

        def ordered(values: Tensor, order: Tensor) -> Tensor:
            return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))

        if condition is not None and condition.ndim > 2:
            condition = ordered(condition, order)
        y = self.part(ordered(tokens, order), context.replace(mask=mask.bool(), condition=condition))
        return ordered(y, order.argsort(dim=1)).view(x.shape)

    def _prefixed(self, x: Tensor, context: Context) -> Tensor:
        """Tokens without a place go from the front of the one axis to its end, and back."""
        count, condition, mask = context.prefix, context.condition, context.mask
        if condition is not None and condition.ndim > 2:
            condition = condition.roll(-count, dims=1)
        mask = None if mask is None else mask.roll(-count, dims=1)
        y = self(x.roll(-count, dims=1), context.replace(prefix=0, grid=None, condition=condition, mask=mask))
        return y.roll(count, dims=1)
