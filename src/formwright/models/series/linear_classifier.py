"""Linear models of series, for classes and numbers: of values and power spectrum, and of MiniRocket's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from formwright.candidates import candidate
from formwright.models.solving import fit_head, fit_minirocket, fit_minirocket_ridge, fit_ridge
from formwright.nn.minirocket import KERNELS
from formwright.nn.plain_features import ValuesAndSpectrum
from formwright.nn.specification import ChainSpec, SeriesInput, StageSpec, part
from formwright.open_choices import Categorical
from formwright.shapes import LabelledShape


def linear_series(features: str, count: int, shape: LabelledShape) -> ChainSpec:
    """A linear classifier of so many plain features of a series."""
    return ChainSpec(
        family="linear_series",
        name="linear_series",
        task=shape.task,
        input=SeriesInput(variates=shape.variates, length=shape.length),
        classes=shape.classes,
        embed=part(features),
        stages=(StageSpec(count, ()),),
        head=part("classifier"),
    )


@candidate("series-classification", "spectrum", order=5, choices={}, fit=fit_head, called="logistic regression")
@candidate("series-regression", "spectrum", order=5, choices={}, fit=fit_ridge, called="ridge regression")
def _of_spectrum(shape: LabelledShape) -> ChainSpec:
    return linear_series("values_and_spectrum", ValuesAndSpectrum.features(shape.variates, (shape.length,)), shape)


_ROCKET: Mapping[str, Any] = {
    "order": 6,
    "choices": {"per_kernel": Categorical((6, 12, 24, 48, 119))},
    "scale": "per_kernel",
    "narrow": 0,
    "called": "MiniRocket",
}


@candidate("series-classification", "minirocket", fit=fit_minirocket, **_ROCKET)
@candidate("series-regression", "minirocket", fit=fit_minirocket_ridge, **_ROCKET)
def _of_convolutions(shape: LabelledShape, per_kernel: int) -> ChainSpec:
    """The published number of features is 119 for each kernel, 9,996 in all."""
    return linear_series("minirocket", KERNELS * per_kernel, shape)
