"""A window of series as a table: a row for each variate and step to forecast, in columns of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.forecast_heads import steps_ahead
from formwright.nn.parts import PARTS, Part, Promises
from formwright.nn.series import check_series

#: Latest values that are columns, and the steps of means of the latest ones beside those of seasons.
RECENT, MEANS = 6, (3, 12)
#: Added to the variance of a window of scaled series: what varies less is not blown up.
_LEAST_VARIANCE = 0.01
#: Level and deviation are multiples of this: programs that add in another order then have the same, and trees do not
#: send a row the other way.
_GRAIN = 2.0**-8


def _rounded(values: Tensor) -> Tensor:
    return (values / _GRAIN).round() * _GRAIN


def same_phase(length: int, season: int, horizon: int) -> list[int]:
    """The places in a window of the last values a whole number of seasons before each step."""
    return [length + step - season * (step // season + 1) for step in range(horizon)]


@PARTS.register("lag_table")
class LagTable(Part):
    """What tabular models are given of a window, for each variate and step to forecast.

    Values are ``z = (x - level) / deviation``: the level is the mean of the last season (the last value where there is
    none), and the deviation is ``sqrt(variance + 0.01)`` of the window, both rounded; ``context.statistics`` has them.
    The columns are the values one and two seasons before the step and the mean of all in its phase, for each season;
    the step; the latest :data:`RECENT` values; means of the latest steps; the last value less that of a season before;
    level and deviation; the number of the variate; the latest values of the covariates of the past; the columns that
    are known ahead, at the step; and those of them that are no cycles, less their values a season before.

    Args:
        in_dim: number of variates, covariates included.
        dim: columns of all steps: ``horizon`` times what :meth:`columns` says.
        grid: the length of the window.
        horizon: steps to forecast.
        covariates: how many of the last variates are not forecast.
        ahead: how many of these, the last ones, are known ahead, ``min(length, horizon)`` steps later than the others.
        cycles: how many pairs of sine and cosine stand at the end of these.
        seasons: steps after which patterns come again, no longer than the window.

    Shapes: ``(batch, time, variates)`` to ``(batch, targets, horizon * columns)``; ``context.statistics``
    ``(batch, targets, 2)``.

    Raises:
        UserError: the window has another length or number of variates, or ``dim`` does not match.
    """

    promises: ClassVar[Promises] = Promises(
        dimensions=(1,),
        any_grid=False,
        exemptions={
            "tokens": "takes a series, not tokens",
            "residual": "each column has a place of its own",
            "gradients": "has no parameters",
        },
    )

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        grid: tuple[int, ...],
        horizon: int,
        covariates: int = 0,
        ahead: int = 0,
        cycles: int = 0,
        seasons: Sequence[int] = (),
    ) -> None:
        super().__init__()
        (self.length,) = grid
        self.variates, self.targets, self.horizon = in_dim, in_dim - covariates, horizon
        self.ahead, self.cycles = ahead, cycles
        self.seasons = tuple(season for season in seasons if season <= self.length) or (1,)
        self.means = tuple(sorted({steps for steps in (*MEANS, *self.seasons) if 1 < steps <= self.length}))
        count = self.columns(in_dim, self.length, horizon, covariates, ahead, cycles, seasons)
        if dim != horizon * count:
            raise UserError(f"{horizon} steps of {count} columns each have {horizon * count} in all, not {dim}.")
        self.differences = self._differs(self.length, horizon, self.seasons[0], ahead - 2 * cycles)

    @staticmethod
    def _differs(length: int, horizon: int, season: int, columns: int) -> bool:
        """Whether what is known ahead reaches back by a season before all steps to forecast."""
        return columns > 0 and min(same_phase(length, season, horizon)) >= min(length, horizon)

    @classmethod
    def columns(
        cls,
        in_dim: int,
        length: int,
        horizon: int,
        covariates: int,
        ahead: int,
        cycles: int,
        seasons: Sequence[int],
    ) -> int:
        """How many columns a step has."""
        held = tuple(season for season in seasons if season <= length) or (1,)
        means = {steps for steps in (*MEANS, *held) if 1 < steps <= length}
        known = ahead - 2 * cycles
        difference = known if cls._differs(length, horizon, held[0], known) else 0
        return 3 * len(held) + 1 + min(RECENT, length) + len(means) + 3 + covariates + difference + 1

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.length, variates=self.variates)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return (self.targets,)

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch targets columns"], Context]:
        self.check_input(x)
        length, horizon, season = self.length, self.horizon, self.seasons[0]
        values = x[..., : self.targets].mT
        level = _rounded(values[..., length - season :].mean(-1, keepdim=True))
        spread = (values - values.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        deviation = _rounded((spread + _LEAST_VARIANCE).sqrt())
        context = context.replace(statistics=torch.cat([level, deviation], dim=-1))
        z = (values - level) / deviation
        of_window = [
            *(z[..., length - 1 - place] for place in range(min(RECENT, length))),
            *(z[..., length - steps :].mean(-1) for steps in self.means),
            z[..., -1] - z[..., max(length - 1 - season, 0)],
            level[..., 0],
            deviation[..., 0],
        ]
        every = [column[..., None].expand(-1, -1, horizon) for column in of_window]
        covariates = x[..., self.targets :].mT
        past = covariates[:, : covariates.shape[1] - self.ahead, -1:].expand(-1, -1, horizon)
        known = covariates[:, covariates.shape[1] - self.ahead :]
        beside = [past, steps_ahead(known, horizon)]
        if self.differences:
            places = torch.tensor(same_phase(length, season, horizon), device=x.device) - min(length, horizon)
            columns = self.ahead - 2 * self.cycles
            beside.append(beside[1][:, :columns] - known[:, :columns].index_select(2, places))
        of_step = torch.cat(beside, dim=1)[:, None].expand(-1, self.targets, -1, -1)
        step = torch.arange(horizon, device=x.device, dtype=x.dtype).expand_as(every[0])
        number = torch.arange(self.targets, device=x.device, dtype=x.dtype)[:, None].expand_as(every[0])
        rows = torch.stack([*self._phases(z), step, *every, number], dim=-1)
        rows = torch.cat([rows, of_step.mT], dim=-1)
        return rows.flatten(2), context

    def _phases(self, z: Tensor) -> list[Tensor]:
        """Of each season: the value one season before a step, two before, and the mean of all in its phase."""
        found = []
        for season in self.seasons:
            first = same_phase(self.length, season, self.horizon)
            second = [place - season if place >= season else place for place in first]
            rest = self.length % season
            means = z[..., rest:].reshape(*z.shape[:-1], self.length // season, season).mean(-2)
            in_phase = [(place - rest) % season for place in first]
            places = (torch.tensor(one, device=z.device) for one in (first, second, in_phase))
            found += [each.index_select(-1, place) for each, place in zip((z, z, means), places, strict=True)]
        return found
