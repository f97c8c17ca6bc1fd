"""Series taken apart into trend, season and what is left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Floats = NDArray[np.float64]


def stl_components(series: Floats, period: int) -> tuple[Floats, Floats, Floats]:
    """Trend, season and remainder of each variate of ``(time, variates)``, whose sum is the series.

    Seasonal-trend decomposition by local regression, with the defaults of statsmodels. Every value of a component
    depends on the whole series, later values too: take apart what a model may know, such as the training part.

    Raises:
        UserError: the series is shorter than two periods, or has values that are missing.

    Source: STL, Cleveland et al., Journal of Official Statistics 6 (1990).
    """
    from statsmodels.tsa.seasonal import STL

    if series.ndim != 2 or len(series) < 2 * period or period < 2:
        raise UserError(
            f"A decomposition with period {period} needs a series (time, variates) of at least two periods of two "
            f"steps or more, got shape {series.shape}."
        )
    if not np.isfinite(series).all():
        time, variate = np.argwhere(~np.isfinite(series))[0]
        raise UserError(f"Step {time} of variate {variate} is missing; fill the gaps before taking a series apart.")
    fits = [STL(variate, period=period).fit() for variate in series.T]
    trend, season, remainder = (
        np.stack([np.asarray(getattr(fit, name)) for fit in fits], axis=1) for name in ("trend", "seasonal", "resid")
    )
    return trend, season, remainder
