"""Feature pyramids on the backbone of any classifier of pictures.

Source: Feature Pyramid Networks for Object Detection, arXiv 1612.03144.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from formwright.errors import UserError
from formwright.models import model_specification, register_family
from formwright.models.topologies.pyramid import PyramidSpec
from formwright.models.vision.common import image_input
from formwright.nn.inputs import ImageInput
from formwright.nn.pyramid import NeckSpec
from formwright.nn.specification import ChainSpec


def pyramid(
    *,
    name: str = "pyramid",
    backbone: str = "resnet18",
    options: Mapping[str, Any] | None = None,
    stages: Sequence[int] | None = None,
    dim: int = 256,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
    sized: bool = False,
) -> PyramidSpec:
    """A pyramid over the maps of a named model.

    Args:
        backbone: a model of embedding and stages that takes pictures, by name; its head is left out.
        options: of the backbone's family.
        stages: whose maps, from the finest; all if unset.
        dim: channels of the maps.
        channels: of the pictures.
        image_size: their side, or height and width.
        sized: whether pictures of several sizes come padded, with their ``lengths``.

    Raises:
        UserError: the backbone takes no pictures, or has another topology.
    """
    chain = model_specification(backbone, channels=channels, image_size=image_size, **(options or {}))
    if not isinstance(chain, ChainSpec) or not isinstance(chain.input, ImageInput):
        raise UserError(f"{backbone} has no maps of pictures to build a pyramid on; name a classifier of pictures.")
    source = image_input(channels, image_size)
    return PyramidSpec(
        family="fpn",
        name=name,
        task="features",
        input=ImageInput(source.channels, source.size, sized, chain.input.fixed),
        embed=chain.embed,
        stages=chain.stages,
        embed_dim=chain.embed_dim,
        neck=NeckSpec(tuple(range(len(chain.stages)) if stages is None else stages), dim),
        initialization="xavier",
    )


register_family(
    pyramid,
    {"resnet18_fpn": {}, "resnet50_fpn": {"backbone": "resnet50"}, "convnext_tiny_fpn": {"backbone": "convnext_tiny"}},
    family="fpn",
    task="features",
)
