"""Data sets that come with a dependency, so that everything can be tried without a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """scikit-learn's 1,797 handwritten digits: ``(images (n, 8, 8, 1) in 0..255, labels, class names)``.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)  # the file's values are 0..16
    return images[..., None], bunch.target.astype(np.int64), tuple(str(name) for name in bunch.target_names)
