"""The candidates for pictures by themselves: what ``fit`` proposes for a size, for scripts that look at one of them."""

from __future__ import annotations

from formwright.search.space import Space, space_for
from formwright.shapes import PictureShape

__all__ = ["ImageSpace", "PictureShape"]


class ImageSpace(Space):
    """What the families of the library offer for pictures.

    >>> space = ImageSpace(PictureShape((224, 224), channels=3, classes=2, pictures=208))
    >>> space.propose("resnet", width=8, depth=1).specification.family
    'resnet'
    """

    def __init__(self, shape: PictureShape) -> None:
        super().__init__(space_for("image-classification", shape).families, shape)
