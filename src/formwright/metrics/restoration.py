"""PSNR and SSIM of restored pictures, on their luma, as papers on super-resolution report them.

``torchmetrics`` computes both; it is imported when it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def luma(pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Y of BT.601 in its studio range: ``(16 + 65.481 R + 128.553 G + 24.966 B) / 255`` for values from 0 to 1.

    Shapes: ``(batch, 3, height, width)`` to ``(batch, 1, height, width)``; pictures of one channel are luma already.
    """
    if pictures.shape[1] == 1:
        return pictures.astype(np.float32)
    weights = np.array([65.481, 128.553, 24.966], np.float32)[:, None, None]
    return ((16 + (pictures.astype(np.float32) * weights).sum(1, keepdims=True)) / 255).astype(np.float32)


def psnr_and_ssim(restored: NDArray[Any], true: NDArray[Any], border: int = 0) -> tuple[float, float]:
    """PSNR in decibels and SSIM, the means over pictures ``(batch, 1 or 3, height, width)`` from 0 to 1.

    Values are cut to 0 to 1 and rounded to 255 steps, as they are in a file; ``border`` pixels of each side do not
    count. ``PSNR = 10 log10(1 / mean (y - t)²)``, at most 100 where pictures are the same; SSIM has a Gaussian window
    of 11 pixels and a deviation of 1.5.

    Source of SSIM: Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004).
    """
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    rounded = np.round(np.clip(restored, 0, 1) * 255) / 255
    height, width = true.shape[2:]
    inside = (slice(None), slice(None), slice(border, height - border), slice(border, width - border))
    ours, theirs = (torch.from_numpy(np.ascontiguousarray(luma(each)[inside])) for each in (rounded, true))
    psnr = [float(peak_signal_noise_ratio(one, other, data_range=1.0)) for one, other in zip(ours, theirs, strict=True)]
    ssim = structural_similarity_index_measure(ours, theirs, data_range=1.0)
    return float(np.mean(np.minimum(psnr, 100.0))), float(ssim)  # type: ignore[arg-type]
