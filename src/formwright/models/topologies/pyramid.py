"""The pyramid: maps of all strides of a backbone, with one width, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from formwright.models.network import NETWORKS, Network
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import to_channels_first
from formwright.nn.frame import Backbone
from formwright.nn.inputs import GridInput, ImageInput, Input, lengths_of
from formwright.nn.parts import Width
from formwright.nn.pyramid import FeaturePyramid, NeckSpec
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class PyramidSpec(NetworkSpec):
    """``embed`` → ``stages``, and the ``neck`` over the maps after some of them.

    ``embed_dim`` is the number of channels after the embedding, where it is not that of the first stage.
    """

    input: ImageInput | GridInput
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    neck: NeckSpec
    embed_dim: int | None = None
    kind: Literal["pyramid"] = "pyramid"

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {"input": self.input, **lengths_of(self.input)}


@NETWORKS.register("pyramid")
class Pyramid(Network):
    """Maps ``level_0``, ``level_1``, ... of one width, from the finest, for whatever finds or outlines things in them.

    >>> model = create_model("resnet18_fpn")                               # doctest: +SKIP
    >>> maps = model(images)             # {"level_0": (batch, 256, height / 4, width / 4), "level_1": ..., ...}

    Source: Feature Pyramid Networks for Object Detection, arXiv 1612.03144.
    """

    specification_type = PyramidSpec
    _specification: PyramidSpec

    def build(self, specification: PyramidSpec) -> None:
        source = specification.input
        self.backbone = Backbone(
            specification.embed, specification.stages, source.channels, source.size, specification.embed_dim
        )
        self.neck = FeaturePyramid(specification.neck, self.backbone)

    def widths(self) -> list[Width]:
        return self.neck.widths("neck", self.backbone.widths("backbone"), "backbone")

    def forward(
        self,
        input: Float[Tensor, "batch channels *size"],
        context: Context = EMPTY,
        *,
        lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"] | None = None,
    ) -> dict[str, Float[Tensor, "batch dim *grid"]]:
        """The maps by name, channels first.

        Args:
            input: pictures, or values on another grid.
            context: a ``mask`` ``(batch, *size)`` in it is false for padding.
            lengths: the size of each sample, where the input says that samples have several.

        Raises:
            UserError: the input does not fit, or lengths are missing.
        """
        source = self._specification.input
        source.check(input)
        self.backbone.check_size(tuple(input.shape[2:]))
        maps = self.neck(self.backbone.maps(input, self.neck.stages, self.masked(source, input, context, lengths)))
        return {f"level_{level}": to_channels_first(x) for level, (x, _) in enumerate(maps)}
