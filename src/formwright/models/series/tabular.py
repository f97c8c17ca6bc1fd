"""Forecasters that a solver finds at once: a ridge and boosted trees, of lags, the calendar and what is known ahead.

What data scientists would try before a network, as networks: they are raced, exported and shipped like the others.
"""

from __future__ import annotations

from formwright.candidates import candidate
from formwright.models.solving_forecasts import fit_ridge, fit_trees
from formwright.nn.lag_table import LagTable
from formwright.nn.specification import ChainSpec, SeriesInput, StageSpec, part
from formwright.shapes import SeriesShape

TREES, LEAVES, DEPTH = 128, 31, 6


@candidate("forecasting", "ridge", order=4, choices={}, fit=fit_ridge, called="linear with covariates")
def _linear(shape: SeriesShape) -> ChainSpec:
    """The window, the calendar and what is known ahead, weighted."""
    head = part(
        "covariate_linear",
        covariates=shape.covariates,
        ahead=shape.ahead,
        cycles=shape.cycles,
        seasons=shape.seasons,
    )
    return ChainSpec(
        family="ridge_forecaster",
        name="ridge_forecaster",
        task="forecasting",
        input=SeriesInput(variates=shape.variates + shape.covariates, length=shape.length),
        classes=shape.horizon,
        embed=part("variate_tokens"),
        stages=(StageSpec(dim=shape.length, blocks=()),),
        head=head,
    )


@candidate("forecasting", "trees", order=5, choices={}, fit=fit_trees, called="boosted trees")
def _trees(shape: SeriesShape) -> ChainSpec:
    """Boosted trees of a table of lags."""
    columns = LagTable.columns(
        shape.variates + shape.covariates,
        shape.length,
        shape.horizon,
        shape.covariates,
        shape.ahead,
        shape.cycles,
        shape.seasons,
    )
    embed = part(
        "lag_table",
        horizon=shape.horizon,
        covariates=shape.covariates,
        ahead=shape.ahead,
        cycles=shape.cycles,
        seasons=shape.seasons,
    )
    return ChainSpec(
        family="tree_forecaster",
        name="tree_forecaster",
        task="forecasting",
        input=SeriesInput(variates=shape.variates + shape.covariates, length=shape.length),
        classes=shape.horizon,
        embed=embed,
        stages=(StageSpec(dim=shape.horizon * columns, blocks=()),),
        head=part("boosted_trees", trees=TREES, leaves=LEAVES, depth=DEPTH),
    )
