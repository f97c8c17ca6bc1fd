"""The restorer: a picture to a better picture, as large or several times as high and wide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network
from formwright.nn.context import EMPTY, Context
from formwright.nn.frame import Backbone
from formwright.nn.inputs import ImageInput, Input
from formwright.nn.parts import Part, Width, build_part
from formwright.nn.pixel_shuffle import bicubic_kernels, enlarged_by
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class RestorerSpec(NetworkSpec):
    """``embed`` → ``stages`` → ``head``, with the enlarged input added where there is a global skip.

    Attributes:
        input: the pictures, of any height and width; its size is what parts are built for.
        scale: how many times as high and wide the answer is.
        skip: whether the input, enlarged bicubically, is added to the answer.
        multiple: what height and width are filled up to a multiple of, with the last row and column; the answer is cut
            again.
    """

    input: ImageInput
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    head: PartSpec
    scale: int
    skip: bool = False
    multiple: int = 1
    kind: Literal["restorer"] = "restorer"

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {"input": self.input}


@NETWORKS.register("restorer")
class Restorer(Network):
    """``y = head(stages(embed(x)))``, or ``y + bicubic(x)`` with a global skip; any height and width.

    >>> model = create_model("espcn_x2")                # doctest: +SKIP
    >>> larger = model(pictures)          # (batch, 1, height, width) -> (batch, 1, 2 height, 2 width)

    Source: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network,
    arXiv 1609.05158; the global skip: Accurate Image Super-Resolution Using Very Deep Convolutional Networks, arXiv
    1511.04587.
    """

    specification_type = RestorerSpec
    _specification: RestorerSpec

    def build(self, specification: RestorerSpec) -> None:
        source = specification.input
        if source.sized or source.fixed or specification.scale < 1 or specification.multiple < 1:
            raise UserError(
                "A restorer takes pictures of any size, neither padded nor fixed, and a scale and a multiple from 1; "
                f"got {source}, {specification.scale} and {specification.multiple}."
            )
        height, width = (self._filled(side, specification.multiple) for side in source.size)
        self.backbone = Backbone(specification.embed, specification.stages, source.channels, (height, width))
        self.head: Part = build_part(specification.head, self.backbone.dim, source.channels)
        if specification.skip:
            kernels = bicubic_kernels(specification.scale).repeat(source.channels, 1, 1, 1)
            self.register_buffer("bicubic", kernels, persistent=False)

    @staticmethod
    def _filled(side: int, multiple: int) -> int:
        return (side + multiple - 1) // multiple * multiple

    def widths(self) -> list[Width]:
        return self.backbone.widths("backbone", "head")

    def forward(
        self, input: Float[Tensor, "batch channels height width"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels larger_height larger_width"]:
        """The restored pictures.

        Raises:
            UserError: the channels or axes of the input do not match.
        """
        specification = self._specification
        specification.input.check(input)
        x, (height, width) = input, input.shape[2:]
        if specification.multiple > 1:  # by number, so that exported graphs hold it for any size
            for axis, side in ((2, height), (3, width)):
                places = torch.arange(self._filled(side, specification.multiple), device=x.device)
                x = x.index_select(axis, places.clamp(max=side - 1))
        tokens, context = self.backbone(x, self.settle(context))
        y: Tensor = self.head(tokens, context)
        if specification.multiple > 1:
            for axis, side in ((2, height), (3, width)):
                y = y.index_select(axis, torch.arange(side * specification.scale, device=y.device))
        return y + self.enlarged(input) if specification.skip else y

    def enlarged(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels larger_height larger_width"]:
        """The input enlarged bicubically, which a global skip adds."""
        return enlarged_by(x, self.bicubic, self._specification.scale)  # type: ignore[arg-type]
