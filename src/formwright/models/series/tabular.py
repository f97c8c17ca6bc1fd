"""Forecasters that a solver finds at once: a ridge and boosted trees, of lags, the calendar and what is known ahead.

What data scientists would try before a network, as networks: they are raced, exported and shipped like the others.
"""

from __future__ import annotations

from typing import Any

from formwright.candidates import candidate
from formwright.models.solving_forecasts import fit_ridge, fit_trees
from formwright.nn.lag_table import LagTable
from formwright.nn.specification import ChainSpec, PartSpec, SeriesInput, StageSpec, part
from formwright.shapes import SeriesShape

TREES, LEAVES, DEPTH = 128, 31, 6


@candidate("forecasting", "ridge", order=4, choices={}, fit=fit_ridge, called="linear with covariates")
def _linear(shape: SeriesShape) -> ChainSpec:
    """The window, the calendar and what is known ahead, weighted."""
    head = part("covariate_linear", **_known(shape))
    return _chain(shape, "ridge_forecaster", part("variate_tokens"), shape.length, head)


@candidate("forecasting", "trees", order=5, choices={}, fit=fit_trees, called="boosted trees")
def _trees(shape: SeriesShape) -> ChainSpec:
    """Boosted trees of a table of lags."""
    variates = shape.variates + shape.covariates
    columns = LagTable.columns(variates, shape.length, shape.horizon, **_known(shape))
    table = part("lag_table", horizon=shape.horizon, **_known(shape))
    head = part("boosted_trees", trees=TREES, leaves=LEAVES, depth=DEPTH)
    return _chain(shape, "tree_forecaster", table, shape.horizon * columns, head)


def _known(shape: SeriesShape) -> dict[str, Any]:
    """What both read beside the window."""
    return {
        "covariates": shape.covariates,
        "ahead": shape.ahead,
        "cycles": shape.cycles,
        "seasons": shape.seasons,
    }


def _chain(shape: SeriesShape, name: str, embed: PartSpec, dim: int, head: PartSpec) -> ChainSpec:
    return ChainSpec(
        family=name,
        name=name,
        task="forecasting",
        input=SeriesInput(variates=shape.variates + shape.covariates, length=shape.length),
        classes=shape.horizon,
        embed=embed,
        stages=(StageSpec(dim=dim, blocks=()),),
        head=head,
    )
