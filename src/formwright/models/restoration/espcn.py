"""ESPCN: three convolutions at low resolution, the last of which makes the places of the larger picture.

Source: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network,
arXiv 1609.05158. Borders are filled with zeros, where the paper cuts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from formwright.candidates import candidate
from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.topologies.restorer import RestorerSpec
from formwright.nn.inputs import ImageInput
from formwright.nn.specification import PartSpec, StageSpec, part

if TYPE_CHECKING:
    from formwright.shapes import RestorationShape


def espcn(
    *,
    name: str = "espcn",
    scale: int = 3,
    dims: Sequence[int] = (64, 32),
    kernels: Sequence[int] = (5, 3, 3),
    activation: str = "tanh",
    skip: bool = False,
    channels: int = 1,
    image_size: int = 64,
) -> RestorerSpec:
    """Convolutions with an activation after each, and a sub-pixel layer.

    Args:
        scale: how many times as high and wide the picture becomes.
        dims: channels after each convolution but the last.
        kernels: odd side of each convolution.
        activation: after each but the last: ``tanh`` in the paper.
        skip: add the input, enlarged bicubically, to what starts as zero; the paper does not.
        channels: of the picture; the paper's is the luma alone.
        image_size: side of the pictures that are measured by default; any goes.

    Raises:
        UserError: there is not one kernel per convolution, or one is even.
    """
    if len(kernels) != len(dims) + 1 or not dims or any(kernel % 2 == 0 for kernel in kernels):
        raise UserError(
            f"ESPCN has one odd kernel per convolution, one more than dims; got kernels={tuple(kernels)} and "
            f"dims={tuple(dims)}."
        )
    after = PartSpec("activation", {"name": activation})
    first, *others = zip(dims, kernels, strict=False)
    stages = [StageSpec(dim=first[0], blocks=())]
    for dim, kernel in others:
        stages.append(
            StageSpec(dim=dim, blocks=(), downsample=part("downsampling", kernel=kernel, stride=1, norm=after))
        )
    return RestorerSpec(
        family="espcn",
        name=name,
        task="restoration",
        input=ImageInput(channels, (image_size, image_size)),
        embed=part("patch_embedding", kernel=first[1], stride=1, padding=first[1] // 2, norm=after),
        stages=tuple(stages),
        head=part("pixel_shuffle", scale=scale, kernel=kernels[-1], zero=skip),
        scale=scale,
        skip=skip,
        initialization="fan_in",
    )


register_family(espcn, {f"espcn_x{scale}": {"scale": scale} for scale in (2, 3, 4)}, family="espcn", task="restoration")


@candidate(
    "restoration",
    "espcn",
    order=10,
    recipe={"optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.0},
    narrow=0,
    plain="plain ESPCN",
)
def _for_pictures(shape: RestorationShape, width: int, depth: int) -> RestorerSpec:
    return espcn(
        scale=shape.scale,
        dims=(width, *[width // 2] * (depth - 1)),
        kernels=(5, *[3] * depth),
        skip=True,
        channels=shape.channels,
        image_size=shape.side,
    )
