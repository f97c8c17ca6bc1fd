"""The U-Net: down through stages to few tokens that see far, and up again, with what each level knew beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import to_channels_first, to_channels_last
from formwright.nn.frame import Stage
from formwright.nn.inputs import GridInput, ImageInput, Input, lengths_of
from formwright.nn.masks import mask_of_lengths
from formwright.nn.parts import INCOMING, RESIDUAL, Part, Width, build_part
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification

Size = tuple[int, ...]


@register_specification
@dataclass(frozen=True, kw_only=True)
class UNetSpec(NetworkSpec):
    """``encoder`` stages down, ``upsampling`` and ``decoder`` stages up, ``head`` at each place.

    Attributes:
        input: values on a grid of one to three axes.
        classes: number of scores for each place.
        encoder: the stages from the finest level to the coarsest; the ``downsample`` of the first is the stem.
        upsampling: one part for each way up, from the coarsest; its channels become those of the level that it joins.
        decoder: the stages of the levels, from the second coarsest to the finest.
        join: how what comes up joins the encoder's tokens of its level: their channels in front of its own, which the
            ``downsample`` of the decoder's stage projects to its width, or the sum of both.
        head: scores of each token.
    """

    input: ImageInput | GridInput
    classes: int
    encoder: tuple[StageSpec, ...]
    upsampling: tuple[PartSpec, ...]
    decoder: tuple[StageSpec, ...]
    head: PartSpec
    join: Literal["concatenate", "sum"] = "concatenate"
    kind: Literal["u_net"] = "u_net"

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {"input": self.input, **lengths_of(self.input)}


@NETWORKS.register("u_net")
class UNet(Network):
    """Scores of every place of a picture, a series or a volume, of any size.

    >>> model = create_model("unet_2d_small", channels=3, classes=4)   # doctest: +SKIP
    >>> scores = model(images)            # (batch, 3, height, width) -> (batch, 4, height, width)

    Sides that are no multiple of the total stride are filled up with zeros behind their end, and the scores cut again.

    Source: U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597.
    """

    specification_type = UNetSpec
    _specification: UNetSpec

    def build(self, specification: UNetSpec) -> None:
        source, ways = specification.input, len(specification.encoder) - 1
        if not ways == len(specification.decoder) == len(specification.upsampling) or ways < 1:
            raise UserError(
                f"A U-Net of {ways + 1} encoder stages needs {ways} upsampling parts and decoder stages, at least one, "
                f"and got {len(specification.upsampling)} and {len(specification.decoder)}."
            )
        dims = [stage.dim for stage in specification.encoder]
        incoming = [dims[-1], *(stage.dim for stage in specification.decoder)]
        skips = dims[-2::-1]
        upsampling: list[Part] = list(map(build_part, specification.upsampling, incoming, skips))
        self.upsampling = nn.ModuleList(upsampling)
        self.stride: Size = (1,) * len(source.size)
        for part in upsampling:
            self.stride = part.output_grid(self.stride)
        grids = [self._padded(source.size)]
        encoder, dim = [], source.channels
        for spec in specification.encoder:
            encoder.append(Stage(spec, dim, grids[-1]))
            dim = spec.dim
            grids.append(encoder[-1].grid)
        self.encoder = nn.ModuleList(encoder)
        share = 2 if specification.join == "concatenate" else 1
        if share == 2 and any(stage.downsample is None for stage in specification.decoder):
            raise UserError("A decoder stage needs a downsample part that projects the concatenated channels.")
        levels = list(zip(skips, grids[-2:0:-1], strict=True))
        self.decoder = nn.ModuleList(
            Stage(spec, share * skip, grid) for spec, (skip, grid) in zip(specification.decoder, levels, strict=True)
        )
        for part, coarser, (_, finer) in zip(upsampling, grids[:1:-1], levels, strict=True):
            if part.output_grid(coarser) != finer:
                raise UserError(
                    f"Upsampling makes {part.output_grid(coarser)} places of {coarser}, and the level that it joins "
                    f"has {finer}: its stride must be that of the downsampling."
                )
        if grids[1] != grids[0]:
            raise UserError(f"The first encoder stage keeps the grid {grids[0]}, and makes {grids[1]} of it.")
        self.head: Part = build_part(specification.head, specification.decoder[-1].dim, specification.classes)

    def _padded(self, size: Size) -> Size:
        """The size filled up to whole strides."""
        # Not -(-side // stride): an exported graph rounds a negative quotient towards zero.
        return tuple((side + stride - 1) // stride * stride for side, stride in zip(size, self.stride, strict=True))

    def widths(self) -> list[Width]:
        """Of all tokens whose channels do not lie beside others in a concatenation."""
        lowest = len(self.encoder) - 1
        widths = [[(f"encoder.{lowest}", RESIDUAL.name)]]
        for way, stage in enumerate(self.decoder):
            widths[-1].append((f"upsampling.{way}", INCOMING.name))
            level, above = lowest - 1 - way, [(f"decoder.{way}", RESIDUAL.name)]
            if self._specification.join == "sum":
                level_below = [(f"encoder.{level + 1}", INCOMING.name), (f"upsampling.{way}", RESIDUAL.name)]
                widths.append([(f"encoder.{level}", RESIDUAL.name), *level_below, (f"decoder.{way}", INCOMING.name)])
            if stage.downsample is None:
                widths[-1] += above
            else:
                widths.append(above)
        widths[-1].append(("head", RESIDUAL.name))
        return [Width(tuple(members)) for members in widths]

    def forward(
        self,
        input: Float[Tensor, "batch channels *size"],
        context: Context = EMPTY,
        *,
        lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"] | None = None,
    ) -> Float[Tensor, "batch classes *size"]:
        """Scores of each place: channels first, as the input.

        Args:
            input: values on the grid.
            context: a ``mask`` ``(batch, *size)`` in it is false for padding.
            lengths: the size of each sample, where the input says that samples have several.

        Raises:
            UserError: the input does not fit, or lengths are missing.
        """
        x, context = self._fill_up(input, self._masked(input, context, lengths))
        levels = []
        for stage in self.encoder:
            x, context = stage(x, context)
            levels.append((x, context))
        levels.pop()
        for upsample, stage in zip(self.upsampling, self.decoder, strict=True):
            skip, finer = levels.pop()
            x, _ = upsample(x, context)
            x, context = stage(
                torch.cat([skip, x], -1) if self._specification.join == "concatenate" else skip + x, finer
            )
        return _cut(to_channels_first(self.head(x, context)), tuple(input.shape[2:]))

    def _masked(self, input: Tensor, context: Context, lengths: Tensor | None) -> Context:
        """The context with what lies beyond the size of each sample masked."""
        source = self._specification.input
        source.check(input)
        if min(input.shape[2:]) < 1:
            raise UserError(f"There is nothing to score in an input of shape {tuple(input.shape)}.")
        if lengths is None and source.sized:
            raise UserError(
                f"{self._specification.name} takes samples of several sizes: give `lengths` beside the input, the "
                "size of each."
            )
        if lengths is not None:
            real = mask_of_lengths(lengths, tuple(input.shape[2:]))
            context = context.replace(mask=real if context.mask is None else real & context.mask)
        return self.settle(context)

    def _fill_up(
        self, input: Float[Tensor, "batch channels *size"], context: Context
    ) -> tuple[Float[Tensor, "batch *padded channels"], Context]:
        """Tokens on a grid of whole strides, the input and its mask filled up with zeros behind their end."""
        size = tuple(input.shape[2:])
        padded = self._padded(size)
        x = to_channels_last(_filled_up(input, padded, self.stride))
        if context.mask is not None:
            context = context.replace(mask=_filled_up(context.mask, padded, self.stride))
        return x, context


# Where an exported graph learns sizes only when it runs, a slice or a pad by what is missing would be taken for one of
# sizes like the example's (whole strides, so that there is nothing to cut); taking the first places by number is not.


def _filled_up(x: Shaped[Tensor, "..."], size: Size, stride: Size) -> Shaped[Tensor, "..."]:
    """``x`` with zeros behind the end of its last axes, up to ``size``, the next multiple of ``stride``."""
    missing = [padded - side for padded, side in zip(size, x.shape[-len(size) :], strict=True)]
    known = all(isinstance(amount, int) for amount in missing)
    if known and not any(missing):
        return x
    room = missing if known else [most - 1 for most in stride]
    x = F.pad(x, [amount for side in reversed(room) for amount in (0, side)])
    return x if known else _first(x, size)


def _cut(x: Shaped[Tensor, "..."], size: Size) -> Shaped[Tensor, "..."]:
    """The first places of the last axes of ``x``."""
    if not all(isinstance(side, int) for side in size):
        return _first(x, size)
    inside: list[Any] = [slice(side) for side in size]
    return x[(..., *inside)]


def _first(x: Shaped[Tensor, "..."], size: Size) -> Shaped[Tensor, "..."]:
    for axis, side in enumerate(size, start=x.ndim - len(size)):
        x = x.index_select(axis, torch.arange(side, device=x.device))
    return x
