"""From series to tokens: a variate, a time step or a patch each."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import Convolution1d
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises

#: Added to the variance of a window, as its authors do: a constant window stays finite.
_EPSILON = 1e-5
_INPUT = Promises(dimensions=(1,), any_grid=False, exemptions={"tokens": "takes a series, not tokens"})


def take_out_statistics(
    series: Float[Tensor, "batch time variates"],
) -> tuple[Float[Tensor, "batch time variates"], Float[Tensor, "batch variates 2"]]:
    """Instance normalisation over time: ``(x - mean) / sqrt(var + 1e-5)`` of each variate, and what was taken out.

    The mean is a constant to the gradient and the standard deviation is not, as in the authors' code of both.

    Source: Non-stationary Transformers, arXiv 2205.14415; without its affine weights, iTransformer, arXiv 2310.06625.
    """
    mean = series.mean(1, keepdim=True).detach()
    centred = series - mean
    deviation = (centred.square().mean(1, keepdim=True) + _EPSILON).sqrt()
    return centred / deviation, torch.cat([mean, deviation], dim=1).transpose(1, 2)


def put_back_statistics(
    forecast: Float[Tensor, "batch horizon variates"], statistics: Float[Tensor, "batch variates 2"] | None
) -> Float[Tensor, "batch horizon variates"]:
    """Undo :func:`take_out_statistics`: ``y * deviation + mean``; nothing to do where nothing was taken out."""
    if statistics is None:
        return forecast
    mean, deviation = statistics.transpose(1, 2).unsqueeze(2).unbind(1)
    return torch.addcmul(mean, forecast, deviation)


def normalise_targets(series: Tensor, covariates: int) -> tuple[Tensor, Tensor]:
    """:func:`take_out_statistics` of all variates but the last ``covariates``."""
    targets, statistics = take_out_statistics(series[..., : series.shape[-1] - covariates])
    series = torch.cat([targets, series[..., series.shape[-1] - covariates :]], dim=-1) if covariates else targets
    return series, statistics


def check_series(series: Tensor, *, length: int | None = None, variates: int | None = None) -> None:
    """Refuse what is not a batch of series of that many steps and variates.

    Raises:
        UserError: names the shape given and the one expected.
    """
    wrong_length = length is not None and series.ndim == 3 and series.shape[1] != length
    wrong_variates = variates is not None and series.ndim == 3 and series.shape[2] != variates
    if series.ndim != 3 or wrong_length or wrong_variates:
        expected = f"(batch, {length or 'time'}, {variates or 'variates'})"
        raise UserError(
            f"Expected series of shape {expected}, got {tuple(series.shape)}; give windows of the length and variates "
            "that the model was built for, or build it for these."
        )


@PARTS.register("inverted_embedding")
class InvertedEmbedding(Part):
    """One token a variate, made of its whole window: ``z_n = W (x_n - mean_n) / deviation_n + b``.

    No weight depends on how many variates there are, so any number will do.

    Args:
        in_dim: number of variates, covariates included.
        dim: channels of a token.
        grid: the length of the window.
        covariates: how many of the last variates are covariates (calendar features, say): tokens like the others, and
            neither normalised nor forecast.
        normalise: whether mean and standard deviation of each window are taken out, for the head to put them back.
        dropout: share of token values that are dropped in training.

    Shapes: ``(batch, time, variates)`` to ``(batch, variates, dim)``; ``context.statistics`` ``(batch, targets, 2)``.

    Raises:
        UserError: the window has another length.

    Source: iTransformer, arXiv 2310.06625.
    """

    promises: ClassVar[Promises] = _INPUT

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        grid: tuple[int, ...],
        covariates: int = 0,
        normalise: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= covariates < in_dim:
            raise UserError(f"Of {in_dim} variates, {covariates} cannot be covariates: at least one is to be forecast.")
        (self.length,) = grid
        self.variates = in_dim
        self.covariates = covariates
        self.normalise = normalise
        self.linear = nn.Linear(self.length, dim)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (RESIDUAL, None)}

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.length)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return (self.variates,)

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch variates dim"], Context]:
        self.check_input(x)
        if self.normalise:
            x, statistics = normalise_targets(x, self.covariates)
            context = context.replace(statistics=statistics)
        tokens = self.linear(x.transpose(1, 2))
        return (tokens if self.dropout is None else self.dropout(tokens)), context


@PARTS.register("variate_tokens")
class VariateTokens(Part):
    """One token a variate, its channels being the values of the window: the transposed series, without weights.

    Shapes: ``(batch, time, variates)`` to ``(batch, variates, time)``.

    Raises:
        UserError: the length of the window or the number of channels of the tokens does not match.
    """

    promises: ClassVar[Promises] = Promises(
        dimensions=(1,),
        any_grid=False,
        exemptions={**_INPUT.exemptions, "residual": "the channels are steps of time, in their order"},
    )

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__()
        (self.length,) = grid
        self.variates = in_dim
        if dim != self.length:
            raise UserError(f"Tokens of windows of {self.length} steps have as many channels, not {dim}.")

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.length)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return (self.variates,)

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch variates time"], Context]:
        self.check_input(x)
        return x.transpose(1, 2), context


def sinusoidal_positions(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """``p[t, 2i] = sin(t / 10000^(2i / dim))``, ``p[t, 2i + 1]`` its cosine (arXiv 1706.03762)."""
    place = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(10000.0) / dim))
    table = torch.empty(length, dim, dtype=torch.float64)
    table[:, 0::2] = torch.sin(place * frequency)
    table[:, 1::2] = torch.cos(place * frequency[: dim // 2])
    return table.to(torch.get_default_dtype())


@PARTS.register("temporal_embedding")
class TemporalEmbedding(Part):
    """One token per time step: a circular convolution of three steps over all variates, plus sinusoidal positions.

    Args:
        in_dim: number of variates.
        dim: channels of a token.
        grid: the number of steps.
        dropout: share of token values that are dropped in training.

    Shapes: ``(batch, time, variates)`` to ``(batch, time, dim)``.

    Raises:
        UserError: the number of steps or of variates does not match.

    Source: the embedding of Informer, arXiv 2012.07436.
    """

    positions: Tensor
    promises: ClassVar[Promises] = _INPUT

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        (self.length,) = grid
        self.variates = in_dim
        self.conv = nn.Conv1d(in_dim, dim, 3, bias=False)
        self.register_buffer("positions", sinusoidal_positions(self.length, dim), persistent=False)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"conv.weight": (RESIDUAL, None, None), "positions": (None, RESIDUAL)}

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.length, variates=self.variates)

    def init_weights(self) -> None:
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="leaky_relu")

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        self.check_input(x)
        tokens = self.conv(F.pad(x.transpose(1, 2), (1, 1), mode="circular")).transpose(1, 2) + self.positions
        return (tokens if self.dropout is None else self.dropout(tokens)), context


@PARTS.register("series_patches")
class SeriesPatches(Part):
    """Tokens of overlapping patches of all variates: a strided convolution over time, ends filled by their last values.

    Args:
        in_dim: number of variates.
        dim: channels of a token.
        grid: the length of a series.
        kernel: steps of a patch.
        stride: steps between patches.
        normalise: whether mean and standard deviation of each series are taken out first.

    Shapes: ``(batch, time, variates)`` to ``(batch, ceil(time / stride), dim)``.

    Raises:
        UserError: the length or the number of variates of the series does not match.

    Source: A Time Series is Worth 64 Words, arXiv 2211.14730, whose patches are of one variate each.
    """

    promises: ClassVar[Promises] = _INPUT

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        grid: tuple[int, ...],
        kernel: int = 8,
        stride: int = 4,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        (self.length,) = grid
        self.variates, self.kernel, self.stride, self.normalise = in_dim, kernel, stride, normalise
        self.conv = Convolution1d(in_dim, dim, kernel, stride)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"conv.weight": (RESIDUAL, None, None)}

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.length, variates=self.variates)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return (-(-self.length // self.stride),)

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch patches dim"], Context]:
        self.check_input(x)
        if self.normalise:
            x, _ = take_out_statistics(x)
        (patches,) = self.output_grid((self.length,))
        missing = max((patches - 1) * self.stride + self.kernel - self.length, 0)
        x = F.pad(x.transpose(1, 2), (missing // 2, missing - missing // 2), mode="replicate")
        return self.conv(x).transpose(1, 2), context


class ReversibleNorm(nn.Module):
    """``(x - mean) / deviation * weight + bias`` of each window, and back; one weight and one bias for all.

    Shapes: ``(rows, time)`` to the same, and the mean and deviation of each row, ``(rows, 1)``, which are constants.

    Source: Reversible Instance Normalization for Accurate Time-Series Forecasting (Kim et al., ICLR 2022).
    """

    def __init__(self, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "rows time"]) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(1, keepdim=True).detach()
        deviation = (x.var(1, keepdim=True, unbiased=False) + self.eps).sqrt().detach()
        return (x - mean) / deviation * self.weight + self.bias, mean, deviation

    def back(self, y: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Forecasts in the unit of the series, as the authors' code divides: by ``weight + eps²``."""
        return (y - self.bias) / (self.weight + self.eps**2) * deviation + mean
