"""From tokens to forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.series import put_back_statistics
from formwright.nn.specification import PartSpec

_HEAD = Promises(dimensions=(1,), exemptions={"tokens": "gives a forecast"})
_OF_STEPS = Promises(
    dimensions=(1,),
    exemptions={"tokens": "gives a forecast", "residual": "the channels are steps of time, in their order"},
)


@PARTS.register("forecast")
class ForecastHead(Part):
    """From one token a variate to its next steps: ``y_n = (W norm(z_n) + b) deviation_n + mean_n``.

    Args:
        dim: channels of a token.
        classes: the horizon, in steps.
        norm: norm of the tokens.
        covariates: how many of the last tokens are covariates, which are not forecast.

    Shapes: ``(batch, variates, dim)`` to ``(batch, horizon, targets)``. Source: iTransformer, arXiv 2310.06625.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"statistics"})
    promises: ClassVar[Promises] = _HEAD

    def __init__(self, dim: int, classes: int, *, norm: PartSpec | None = None, covariates: int = 0) -> None:
        super().__init__()
        self.covariates = covariates
        self.norm = None if norm is None else build_part(norm, dim)
        self.linear = nn.Linear(dim, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm")

    def forward(
        self, x: Float[Tensor, "batch variates dim"], context: Context = EMPTY
    ) -> Float[Tensor, "batch horizon targets"]:
        x = x[:, : x.shape[1] - self.covariates]
        if self.norm is not None:
            x = self.norm(x, context)
        return put_back_statistics(self.linear(x).transpose(1, 2), context.statistics)


@PARTS.register("decomposed_linear")
class DecomposedLinearHead(Part):
    """DLinear: ``y = W_s (x - trend) + W_t trend + b_s + b_t``, the trend being a moving average of the window.

    Args:
        dim: length of the window, which is the channels of its token.
        classes: the horizon, in steps.
        kernel: steps of the moving average, odd; the ends are repeated beyond the window.
        covariates: how many of the last tokens are covariates, which are not forecast.

    Shapes: ``(batch, variates, time)`` to ``(batch, horizon, targets)``.

    Raises:
        UserError: ``kernel`` is even.

    Source: Are Transformers Effective for Time Series Forecasting?, arXiv 2205.13504.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"statistics"})
    promises: ClassVar[Promises] = _OF_STEPS

    def __init__(self, dim: int, classes: int, *, kernel: int = 25, covariates: int = 0) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise UserError(f"The moving average has a middle, so its kernel is odd; got {kernel}.")
        self.kernel, self.covariates = kernel, covariates
        self.seasonal = nn.Linear(dim, classes)
        self.trend = nn.Linear(dim, classes)

    def forward(
        self, x: Float[Tensor, "batch variates time"], context: Context = EMPTY
    ) -> Float[Tensor, "batch horizon targets"]:
        x = x[:, : x.shape[1] - self.covariates]
        side = self.kernel // 2
        trend = F.avg_pool1d(F.pad(x, (side, side), mode="replicate"), self.kernel, stride=1) if x.numel() else x
        return put_back_statistics((self.seasonal(x - trend) + self.trend(trend)).transpose(1, 2), context.statistics)


@PARTS.register("last_value_linear")
class LastValueLinearHead(Part):
    """NLinear: ``y = W (x - x_last) + b + x_last``.

    Args:
        dim: length of the window, which is the channels of its token.
        classes: the horizon, in steps.
        covariates: how many of the last tokens are covariates, which are not forecast.

    Shapes: ``(batch, variates, time)`` to ``(batch, horizon, targets)``.

    Source: Are Transformers Effective for Time Series Forecasting?, arXiv 2205.13504.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"statistics"})
    promises: ClassVar[Promises] = _OF_STEPS

    def __init__(self, dim: int, classes: int, *, covariates: int = 0) -> None:
        super().__init__()
        self.covariates = covariates
        self.linear = nn.Linear(dim, classes)

    def forward(
        self, x: Float[Tensor, "batch variates time"], context: Context = EMPTY
    ) -> Float[Tensor, "batch horizon targets"]:
        x = x[:, : x.shape[1] - self.covariates]
        last = x[..., -1:]
        return put_back_statistics((self.linear(x - last) + last).transpose(1, 2), context.statistics)


@PARTS.register("covariate_linear")
class CovariateLinearHead(Part):
    """A linear model of the window and of what is known of a step: ``y_nh = W_h x_n + b_h + V_h f_h``.

    The features ``f_h`` of a step (:meth:`known`) are the columns that are known ahead, the second and third harmonics
    of the cycles of the calendar among them, the other known columns at the last step of the window, and the latest
    values of the covariates of the past.

    Args:
        dim: length of the window, which is the channels of its token.
        classes: the horizon, in steps.
        covariates: how many of the last tokens are covariates, which are not forecast.
        ahead: how many of these, the last ones, are known ahead, ``min(length, horizon)`` steps later than the others.
        cycles: how many pairs of sine and cosine stand at the end of these.
        seasons: steps after which patterns come again; a solver may begin with the values of a season before.

    Shapes: ``(batch, variates, time)`` to ``(batch, horizon, targets)``.

    Source: NLinear and DLinear, arXiv 2205.13504, whose weights on the window are these; here with covariates.
    """

    promises: ClassVar[Promises] = _OF_STEPS

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        covariates: int = 0,
        ahead: int = 0,
        cycles: int = 0,
        seasons: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not 2 * cycles <= ahead <= covariates:
            raise UserError(
                f"Of {covariates} covariates, {ahead} are known ahead, and of these {cycles} are pairs of a cycle: the "
                "latter are among the former."
            )
        self.length, self.horizon = dim, classes
        self.covariates, self.ahead, self.cycles, self.seasons = covariates, ahead, cycles, tuple(seasons)
        self.linear = nn.Linear(dim, classes)
        features = covariates + 4 * cycles + (ahead - 2 * cycles if dim > classes else 0)
        self.beside = nn.Parameter(torch.empty(classes, features)) if features else None

    def init_weights(self) -> None:
        if self.beside is not None:
            nn.init.normal_(self.beside, std=0.02)

    def known(self, x: Float[Tensor, "batch variates time"]) -> Float[Tensor, "batch horizon features"]:
        """What is known of each step, of all tokens."""
        tokens = x[:, x.shape[1] - self.covariates :]
        past, ahead = tokens[:, : self.covariates - self.ahead, -1:], tokens[:, self.covariates - self.ahead :]
        steps = steps_ahead(ahead, self.horizon)
        sine, cosine = steps[:, self.ahead - 2 * self.cycles :: 2], steps[:, self.ahead - 2 * self.cycles + 1 :: 2]
        double = 2 * sine * cosine, cosine.square() - sine.square()
        triple = sine * double[1] + cosine * double[0], cosine * double[1] - sine * double[0]
        found = [past.expand(-1, -1, self.horizon), steps, *double, *triple]
        if self.length > self.horizon:
            now = ahead[:, : self.ahead - 2 * self.cycles, self.length - self.horizon - 1, None]
            found.append(now.expand(-1, -1, self.horizon))
        return torch.cat(found, dim=1).transpose(1, 2)

    def forward(
        self, x: Float[Tensor, "batch variates time"], context: Context = EMPTY
    ) -> Float[Tensor, "batch horizon targets"]:
        forecast = self.linear(x[:, : x.shape[1] - self.covariates]).transpose(1, 2)
        if self.beside is None:
            return forecast
        return forecast + (self.known(x) * self.beside).sum(-1, keepdim=True)


def steps_ahead(ahead: Float[Tensor, "batch columns time"], horizon: int) -> Float[Tensor, "batch columns horizon"]:
    """Of columns that stand ``min(time, horizon)`` steps later than a window, the steps to forecast; else zero."""
    steps = ahead[..., max(ahead.shape[-1] - horizon, 0) :]
    return F.pad(steps, (0, horizon - steps.shape[-1]))
