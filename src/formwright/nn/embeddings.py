"""From images (or other arrays) to tokens, from tokens to fewer tokens, and what is added to them once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import (
    CONVOLUTIONS,
    fold_batch_norm,
    to_channels_first,
    to_channels_last,
)
from formwright.nn.functional.convolution import convolved_side
from formwright.nn.functional.packing import places_of
from formwright.nn.functional.transforms import mapped, values_are_known
from formwright.nn.masks import coarser_mask
from formwright.nn.norms import BatchNorm
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, State, build_part, sharing
from formwright.nn.specification import PartSpec


def channels_last_memory(x: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels *size"]:
    """The same values in ``channels_last`` memory format, where PyTorch has one.

    Raises:
        UserError: a side is zero.
    """
    if 0 in x.shape[2:]:
        raise UserError(f"An input of size {' x '.join(map(str, x.shape[2:]))} holds nothing; every side starts at 1.")
    if mapped():  # PyTorch does not know the format of what is mapped over
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.ndim]) if x.ndim in formats else x


class _StridedConvolution(Part):
    """A convolution that makes a coarser grid of another width, with an optional norm before or after it.

    Padding is zero to it, and as many of its tokens are real as the real part of the input alone would give.
    """

    #: What the channels of the convolution's input are.
    _columns: ClassVar[Axis | None] = INCOMING

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        kernel: int,
        stride: int,
        padding: int,
        norm: PartSpec | None = None,
        pre_norm: PartSpec | None = None,
        dimensions: int = 2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.dimensions = kernel, stride, padding, dimensions
        self.pre_norm = None if pre_norm is None else build_part(pre_norm, in_dim)
        self.conv = CONVOLUTIONS[dimensions](in_dim, dim, kernel, stride, padding, bias=bias)
        self.norm = None if norm is None else build_part(norm, dim)
        norms = [each for each in (self.pre_norm, self.norm) if each is not None]
        if all(each.promises.per_token or "mask" in each.uses for each in norms):
            self.uses = frozenset({"mask"})  # type: ignore[misc]

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"conv.weight": (RESIDUAL, self._columns, *[None] * self.dimensions)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm") | sharing("pre_norm", channels=INCOMING)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(convolved_side(side, self.kernel, self.stride, self.padding) for side in grid)

    def _apply_convolution(self, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        if context.mask is not None:
            x = x * context.mask[:, None]
            context = context.replace(mask=coarser_mask(context.mask, self.kernel, self.stride, self.padding))
        x = to_channels_last(self.conv(x))
        return (x if self.norm is None else self.norm(x, context)), context

    def fold(self) -> None:
        """Take a batch norm after the convolution into it, in place."""
        if isinstance(self.norm, BatchNorm) and fold_batch_norm(self.conv, self.norm.norm):
            self.norm = None


@PARTS.register("patch_embedding")
class PatchEmbedding(_StridedConvolution):
    """A strided convolution over the input: disjoint patches when ``kernel == stride``, overlapping ones otherwise.

    Args:
        in_dim: channels of the input.
        dim: channels of the tokens.
        kernel: side of a patch.
        stride: distance between patches; ``kernel`` if unset.
        padding: zeros around the input.
        norm: a norm of the tokens.

    Shapes: ``(batch, in_dim, *size)`` to ``(batch, *grid, dim)``, ``grid = (size + 2 padding - kernel) // stride + 1``.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "takes the input, not tokens"})
    _columns: ClassVar[Axis | None] = None

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        kernel: int = 16,
        stride: int | None = None,
        padding: int = 0,
        norm: PartSpec | None = None,
        dimensions: int = 2,
        bias: bool = True,
    ) -> None:
        stride = kernel if stride is None else stride
        super().__init__(
            in_dim, dim, kernel=kernel, stride=stride, padding=padding, norm=norm, dimensions=dimensions, bias=bias
        )
        if norm is None:
            self.output_layers = ("conv",)  # type: ignore[misc]

    def forward(
        self, x: Float[Tensor, "batch channels *size"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        return self._apply_convolution(channels_last_memory(x), context)


@PARTS.register("rescaled_embedding")
class RescaledEmbedding(Part):
    """``embed(factor * x + offset)``: an embedding for inputs that came on another scale than it was trained on.

    Args:
        in_dim: channels of the input.
        dim: channels of the tokens.
        embed: the embedding.
        factor: one per channel of the input.
        offset: one per channel of the input.
        grid: size of the input.

    Shapes: ``(batch, in_dim, *size)`` to ``(batch, *grid, dim)``, as of the embedding.

    Raises:
        UserError: there are not as many factors and offsets as channels.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "takes the input, not tokens"})
    factor: Tensor
    offset: Tensor

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        embed: PartSpec,
        factor: Sequence[float],
        offset: Sequence[float],
        grid: tuple[int, ...],
    ) -> None:
        super().__init__()
        if not len(factor) == len(offset) == in_dim:
            raise UserError(
                f"An input of {in_dim} channels needs as many factors and offsets; got {len(factor)} and {len(offset)}."
            )
        self.embed: Part = build_part(embed, in_dim, dim, grid=grid)
        self.uses = self.embed.uses  # type: ignore[misc]
        self.register_buffer("factor", torch.tensor(factor), persistent=False)
        self.register_buffer("offset", torch.tensor(offset), persistent=False)

    def inner_axes(self) -> InnerAxes:
        return sharing("embed")

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return self.embed.output_grid(grid)

    def forward(
        self, x: Float[Tensor, "batch channels *size"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        along = (-1, *[1] * (x.ndim - 2))
        return self.embed(x * self.factor.view(along) + self.offset.view(along), context)


@PARTS.register("downsampling")
class Downsampling(_StridedConvolution):
    """A strided convolution between stages, with an optional norm before (``pre_norm``) or after (``norm``) it.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        kernel: int = 3,
        stride: int = 2,
        padding: int | None = None,
        norm: PartSpec | None = None,
        pre_norm: PartSpec | None = None,
        dimensions: int = 2,
        bias: bool = True,
    ) -> None:
        padding = (kernel - 1) // 2 if padding is None else padding
        super().__init__(
            in_dim,
            dim,
            kernel=kernel,
            stride=stride,
            padding=padding,
            norm=norm,
            pre_norm=pre_norm,
            dimensions=dimensions,
            bias=bias,
        )

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        if self.pre_norm is not None:
            x = self.pre_norm(x, context)
        return self._apply_convolution(to_channels_first(x), context)


@PARTS.register("position_table")
class PositionTable(Part):
    """Adds a learned vector to each place of the grid (and to each prefix token in front of it).

    Args:
        dim: channels.
        grid: the grid that the table is made for.
        prefix: how many prefix tokens have an entry too.
        std: standard deviation of the initial values.

    Shapes: ``(batch, *grid, dim)`` or ``(batch, prefix + places, dim)`` to the same.

    Raises:
        UserError: the grid is not the one that the table was made for.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"prefix", "grid", "mask"})
    promises: ClassVar[Promises] = Promises(any_grid=False)
    output_layers: ClassVar[tuple[str, ...]] = ("table",)
    no_decay: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(self, dim: int, *, grid: tuple[int, ...], prefix: int = 0, std: float = 0.02) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.prefix = prefix
        places = math.prod(self.grid)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(prefix + places, dim), std=std))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"table": (None, RESIDUAL)}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid channels"], Context]:
        grid = context.grid if context.flat else tuple(x.shape[1:-1])
        if grid != self.grid or context.prefix != self.prefix:
            raise UserError(
                f"The position table was made for {_counted(self.grid, self.prefix)}, and got "
                f"{_counted(grid or (), context.prefix)}; build the model for this input size (image_size=...)."
            )
        return x + self.table.view(x.shape[1:]), context


def _counted(grid: tuple[int, ...], prefix: int) -> str:
    """``64 tokens (8 x 8) and 1 in front``."""
    sides = f" ({' x '.join(map(str, grid))})" if len(grid) > 1 else ""
    return f"{math.prod(grid)} tokens{sides} and {prefix} in front"


@PARTS.register("resized_position_table")
class ResizedPositionTable(PositionTable):
    """A position table that other grids get too, linearly interpolated along every axis.

    Shapes: ``(batch, *grid, dim)`` or ``(batch, prefix + places, dim)`` to the same. On its own grid it is
    :class:`PositionTable`; vectors of prefix tokens are never interpolated.

    Raises:
        UserError: the number of prefix tokens does not match the entries of the table.

    Source: Inception Transformer, arXiv 2205.12956, whose authors' code resizes where the number of places differs,
    not the sides.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"padding": "the table is stretched over the padding, too"})

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid channels"], Context]:
        grid = context.grid if context.grid is not None else tuple(x.shape[1:-1])
        if grid == self.grid or context.prefix != self.prefix:
            return super().forward(x, context)
        table = self.table[self.prefix :].T.reshape(1, -1, *self.grid)
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
        places = table[0, :, :0].flatten(1).T if 0 in grid else F.interpolate(table, grid, mode=mode)[0].flatten(1).T
        return x + torch.cat([self.table[: self.prefix], places]).view(x.shape[1:]), context


@PARTS.register("class_token")
class ClassToken(Part):
    """Puts learned tokens without a place in front of the others, which go on one axis from here on.

    Args:
        dim: channels.
        count: how many (2 for a class and a distillation token).
        std: standard deviation of the initial values; 0 starts at zero.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, count + places, dim)``.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"grid", "prefix", "mask"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "adds tokens"})
    output_layers: ClassVar[tuple[str, ...]] = ("tokens",)
    no_decay: ClassVar[tuple[str, ...]] = ("tokens",)

    def __init__(self, dim: int, *, count: int = 1, std: float = 0.02) -> None:
        super().__init__()
        tokens = torch.zeros(count, dim)
        self.tokens = nn.Parameter(nn.init.trunc_normal_(tokens, std=std) if std else tokens)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"tokens": (None, RESIDUAL)}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch tokens channels"], Context]:
        grid = context.grid if context.flat else tuple(x.shape[1:-1])
        count = self.tokens.shape[0]
        mask = context.mask
        if mask is not None:
            mask = torch.cat([mask.new_ones(x.shape[0], count), mask.flatten(1)], dim=1)
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x.flatten(1, -2)], dim=1)
        return x, context.replace(prefix=context.prefix + count, grid=grid, mask=mask)


@PARTS.register("token_embedding")
class TokenEmbedding(Part):
    """``y = scale * table[ids]``: a learned vector for each id of a vocabulary.

    Args:
        in_dim: size of the vocabulary.
        dim: channels.
        scale: factor on the vectors.
        std: standard deviation of the initial values.
        tied: let the table be that of another embedding of the network; this one has none of its own then.

    Shapes: ids ``(batch, time)`` to ``(batch, time, dim)``.

    Raises:
        UserError: an id is not in the vocabulary.
    """

    weight: nn.Parameter | None
    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), per_token=True, causal=True, exemptions={"tokens": "takes ids, not tokens"}
    )
    output_layers: ClassVar[tuple[str, ...]] = ("weight",)
    # A step sees some rows of a vocabulary, so there is nothing to make orthogonal or to decay.
    no_decay: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, in_dim: int, dim: int, *, scale: float = 1.0, std: float = 0.02, tied: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.tied = tied
        self.weight = None if tied else nn.Parameter(nn.init.normal_(torch.empty(in_dim, dim), std=std))
        if tied:
            self.output_layers = ()  # type: ignore[misc]

    def tie(self, embedding: TokenEmbedding) -> None:
        """Use the table of ``embedding`` from now on; it stays that one's, and is saved once."""
        self.__dict__["embedding"] = embedding

    @property
    def table(self) -> Float[Tensor, "vocabulary dim"]:
        """The vector of each id, its own or another embedding's."""
        own = self.weight
        return self.__dict__["embedding"].table if own is None else own

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"weight": (None, RESIDUAL)}

    def check_input(self, ids: Tensor) -> None:
        """Refuse what is not rows of ids; whether each is in the vocabulary is found when it is looked up."""
        if ids.ndim != 2 or ids.is_floating_point():
            raise UserError(f"Expected token ids (batch, time), and got {ids.dtype} of shape {tuple(ids.shape)}.")

    def forward(
        self, ids: Int[Tensor, "batch time"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        try:
            x = F.embedding(ids, self.table)
        except IndexError:
            raise UserError(
                f"The vocabulary has {len(self.table)} tokens, and ids from {ids.min()} to {ids.max()} came: the text "
                "was split by another tokeniser than the model was made for."
            ) from None
        return (x if self.scale == 1.0 else x * self.scale), context


@PARTS.register("learned_positions")
class LearnedPositions(Part):
    """Adds a learned vector to each place of a sequence: ``y_t = x_t + table[t]``, or a norm of the sum.

    Args:
        dim: channels.
        grid: the longest sequence.
        norm: a norm of each token's sum.
        std: standard deviation of the initial values.
        offset: rows of the table before that of the first place, which nothing uses; BART's checkpoints have two.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to the longest sequence. Places of a packed row are counted
    from the beginning of each sequence.

    Raises:
        UserError: a sequence is longer than the table.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "segments"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,), any_grid=False, causal=True)
    output_layers: ClassVar[tuple[str, ...]] = ("table",)
    no_decay: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(
        self, dim: int, *, grid: tuple[int, ...], norm: PartSpec | None = None, std: float = 0.02, offset: int = 0
    ) -> None:
        super().__init__()
        self.offset = offset
        self.table = nn.Parameter(nn.init.normal_(torch.empty(offset + grid[0], dim), std=std))
        self.norm = None if norm is None else build_part(norm, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"table": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm")

    def _check(self, length: int) -> None:
        longest = len(self.table) - self.offset
        if length > longest:
            raise UserError(
                f"The position table was made for at most {longest} tokens, and {length} came; cut "
                "the text, or build the model for longer ones (length=...)."
            )

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time channels"], Context]:
        x = x + self._rows(x.shape[1], context)
        return (x if self.norm is None else self.norm(x, context)), context

    def _rows(self, length: int, context: Context) -> Float[Tensor, "*batch time channels"]:
        if context.starts is None:
            self._check(length)
            return self.table[self.offset : self.offset + length]
        places = places_of(context.starts)
        if values_are_known(places) and places.numel():
            self._check(int(places.max()) + 1)
        return F.embedding(self.offset + places, self.table)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        self._check(capacity)
        return {}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        places = self.offset + state["length"][:, None] + torch.arange(x.shape[1], device=x.device)
        if context.mask is not None:  # padding behind the last token may lie beyond the table
            places = places.clamp(max=len(self.table) - 1)
        x = x + self.table[places]
        return (x if self.norm is None else self.norm(x, context)), state
