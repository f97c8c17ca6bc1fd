"""Data sets that come with a dependency, so that everything can be tried without a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from formwright.data.series import SeriesData


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """scikit-learn's 1,797 handwritten digits: ``(images (n, 8, 8, 1) in 0..255, labels, class names)``.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)  # the file's values are 0..16
    return images[..., None], bunch.target.astype(np.int64), tuple(str(name) for name in bunch.target_names)


def carbon_dioxide(horizon: int | None = None, length: int | None = None) -> SeriesData:
    """Weekly carbon dioxide at Mauna Loa, 1958 to 2001, in parts per million; some weeks are missing.

    Source: Keeling and Whorf, Atmospheric CO2 concentrations (ppmv) derived from in situ air samples, 2004, which comes
    with statsmodels.
    """
    from statsmodels.datasets import co2

    from formwright.data.calendar import clock_frequency
    from formwright.data.series import ColumnRoles, Series, arrange

    frame = co2.load_pandas().data
    times = frame.index.to_numpy("datetime64[ns]")
    series = Series("", times, frame[["co2"]].to_numpy(np.float64))
    week = clock_frequency(int((times[1] - times[0]).astype(np.int64)))
    return arrange(
        (series,), ColumnRoles(("co2",)), week, horizon=horizon or 26, length=length, source="statsmodels' co2"
    )


def control_charts(
    each: int = 100, *, seed: int = 0
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64], tuple[str, ...]]:
    """Charts of 60 steps of six kinds, ``each`` of a kind: ``(series (60, 1), labels, class names)``, generated.

    ``y = 30 + 2 r + pattern`` with ``r`` uniform in -3 to 3 and a pattern of none, a cycle, a trend up or down, or a
    shift up or down.

    Source: Time-series similarity queries employing a feature-based approach (Alcock and Manolopoulos, 1999).
    """
    random = np.random.default_rng(seed)
    names = ("normal", "cyclic", "trend up", "trend down", "shift up", "shift down")
    step = np.arange(60.0)
    charts, labels = [], []
    for kind in range(len(names)):
        for _ in range(each):
            y = 30 + 2 * random.uniform(-3, 3, 60)
            sign = 1.0 if kind % 2 == 0 else -1.0
            if kind == 1:
                y += random.uniform(10, 15) * np.sin(2 * np.pi * step / random.uniform(10, 15))
            elif kind in (2, 3):
                y += sign * random.uniform(0.2, 0.5) * step
            elif kind in (4, 5):
                y += sign * random.uniform(7.5, 20) * (step >= random.uniform(20, 40))
            charts.append(y[:, None])
            labels.append(kind)
    return charts, np.array(labels, np.int64), names
