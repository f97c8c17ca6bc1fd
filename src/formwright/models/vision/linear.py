"""Linear classifiers of pictures, on their pixels and on histograms of their gradients, and kernel machines.

What was shipped before there were networks, and still is where pictures are few and much alike.

Source: Histograms of Oriented Gradients for Human Detection, CVPR 2005.
"""

from __future__ import annotations

from typing import Any

from formwright.candidates import candidate
from formwright.models.solving import fit_head, fit_kernel
from formwright.models.vision.common import fitted, image_input
from formwright.nn.parts import PARTS
from formwright.nn.specification import ChainSpec, StageSpec, part
from formwright.open_choices import Categorical
from formwright.shapes import PictureShape


def linear_pictures(
    *,
    name: str = "linear_pictures",
    features: str,
    centres: int = 0,
    classes: int = 10,
    channels: int = 1,
    image_size: int | tuple[int, int] = 28,
) -> ChainSpec:
    """A classifier of plain features of a picture, ``pixels`` or ``oriented_gradients``.

    It is linear; with ``centres``, it is linear in how near the features are to each of so many of them.
    """
    source = image_input(channels, image_size)
    kind: Any = PARTS[features]
    dim = kind.features(channels, source.size)
    return ChainSpec(
        family="linear_pictures",
        name=name,
        task="image-classification",
        input=source,
        classes=classes,
        embed=part(features),
        embed_dim=dim,
        stages=(StageSpec(centres, (), downsample=part("radial_basis")) if centres else StageSpec(dim, ()),),
        head=part("classifier"),
    )


@candidate("image-classification", "pixels", order=5, choices={}, fit=fit_head, called="logistic regression")
def _of_pixels(shape: PictureShape) -> ChainSpec:
    return linear_pictures(features="pixels", **fitted(shape))


@candidate(
    "image-classification", "gradients", order=6, choices={}, fit=fit_head, called="logistic regression on gradients"
)
def _of_gradients(shape: PictureShape) -> ChainSpec:
    return linear_pictures(features="oriented_gradients", **fitted(shape))


@candidate(
    "image-classification",
    "kernel",
    order=7,
    choices={"centres": Categorical((64, 128, 256, 512, 1024))},
    scale="centres",
    narrow=0,
    fit=fit_kernel,
    called="kernel logistic regression",
)
def _of_distances(shape: PictureShape, centres: int) -> ChainSpec:
    """No more centres than there are pictures."""
    return linear_pictures(features="oriented_gradients", centres=min(centres, shape.pictures), **fitted(shape))
