"""Straight lines in doubly logarithmic pictures: how a loss falls with size, data or compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError


@dataclass(frozen=True)
class PowerLaw:
    """``loss(x) = (x0 / x)^alpha``, fitted to points as a straight line between their logarithms.

    Attributes:
        alpha: by what power the loss falls; negative where it rises.
        x0: where the loss would be one; not a number where it does not depend on ``x``.
        r2: share of the variance of ``log loss`` that the line explains.
        alpha_error: standard error of ``alpha``; not a number for two points.
        points: how many were fitted.
    """

    alpha: float
    x0: float
    r2: float
    alpha_error: float
    points: int
    _centre: tuple[float, float, float, float]

    def __call__(self, x: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """The loss on the line at ``x``."""
        mean_x, mean_y, _, _ = self._centre
        return np.asarray(10 ** (mean_y - self.alpha * (np.log10(x) - mean_x)))

    def band(
        self, x: NDArray[np.floating] | float, confidence: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends of the confidence interval of the line at ``x`` (of the mean loss, not of single runs).

        Raises:
            UserError: there are only two points, or the confidence is not between 0 and 1.
        """
        from scipy.stats import t

        if self.points < 3 or not 0 < confidence < 1:
            raise UserError(
                f"A confidence band needs three points and a confidence between 0 and 1; got {self.points} points and "
                f"{confidence}."
            )
        mean_x, _, squares, residual = self._centre
        quantile = float(t.ppf(0.5 + confidence / 2, self.points - 2))
        spread = quantile * residual * np.sqrt(1 / self.points + (np.log10(x) - mean_x) ** 2 / squares)
        middle = np.log10(self(x))
        return 10 ** (middle - spread), 10 ** (middle + spread)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


def fit_power_law(x: Sequence[float] | NDArray[np.floating], loss: Sequence[float] | NDArray[np.floating]) -> PowerLaw:
    """The least-squares line through ``(log10 x, log10 loss)``.

    Raises:
        UserError: there are fewer than two different ``x``, other numbers of both, or values that are not positive.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models, arXiv 2410.12360.
    """
    x, loss = np.asarray(x, np.float64), np.asarray(loss, np.float64)
    if x.ndim != 1 or x.shape != loss.shape:
        raise UserError(f"As many losses as sizes are expected, got shapes {loss.shape} and {x.shape}.")
    if not (np.isfinite(x) & np.isfinite(loss) & (x > 0) & (loss > 0)).all():
        raise UserError(
            "A power law is fitted to positive numbers. Negative log-likelihoods may be negative: fit an error that "
            "is not, such as the mean absolute one."
        )
    if len(np.unique(x)) < 2:
        raise UserError(f"A power law needs at least two different sizes, got {len(np.unique(x))}.")
    log_x, log_y = np.log10(x), np.log10(loss)
    mean_x, mean_y = log_x.mean(), log_y.mean()
    squares = ((log_x - mean_x) ** 2).sum()
    slope = ((log_x - mean_x) * (log_y - mean_y)).sum() / squares
    rest = ((log_y - mean_y - slope * (log_x - mean_x)) ** 2).sum()
    total = ((log_y - mean_y) ** 2).sum()
    residual = math.sqrt(rest / (len(x) - 2)) if len(x) > 2 else math.nan
    intercept = mean_y - slope * mean_x
    return PowerLaw(
        alpha=float(-slope),
        x0=float(10 ** (-intercept / slope)) if slope else math.nan,
        r2=float(1 - rest / total) if total else 1.0,
        alpha_error=residual / math.sqrt(squares),
        points=len(x),
        _centre=(float(mean_x), float(mean_y), float(squares), residual),
    )
