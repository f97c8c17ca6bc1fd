"""Grey pictures as sequences of brightnesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.images import ImageData
from formwright.data.synthetic.sequences import LabelledSequences

#: Luma of red, green and blue, as ITU-R BT.601 and the Long Range Arena weigh them.
LUMA = (0.299, 0.587, 0.114)


def pixel_sequences(data: ImageData, part: str, *, most: int | None = None) -> LabelledSequences:
    """Pictures of a part of any image data, row by row, each pixel an id from 0 to 255.

    Args:
        data: pictures of one size, grey or in colour.
        part: ``train``, ``val`` or ``test``.
        most: at most so many, evenly spaced over the part.

    Source: the image task of Long Range Arena, arXiv 2011.04006.
    """
    from formwright.data.splits import evenly_spaced

    chosen = data.split.part(part)
    chosen = chosen if most is None else evenly_spaced(chosen, most)
    ids = grey(data.images[chosen]).reshape(len(chosen), -1).astype(np.int16)
    source = f"{Path(data.source).name}, {' x '.join(map(str, data.size))} grey pixels"
    return LabelledSequences(ids, data.labels[chosen], 256, data.classes, None, source)


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(n, height, width, 1 or 3)`` to ``(n, height, width)``: the weighted sum of the colours, rounded."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return np.round(images.astype(np.float32) @ np.array(LUMA, np.float32)).astype(np.uint8)
