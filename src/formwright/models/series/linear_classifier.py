"""The linear classifier of series: of their values and of their power spectrum."""

from __future__ import annotations

from formwright.candidates import candidate
from formwright.models.solving import fit_head
from formwright.nn.plain_features import ValuesAndSpectrum
from formwright.nn.specification import ChainSpec, SeriesInput, StageSpec, part
from formwright.shapes import LabelledShape


@candidate("series-classification", "spectrum", order=5, choices={}, fit=fit_head, called="logistic regression")
def _for_series(shape: LabelledShape) -> ChainSpec:
    return ChainSpec(
        family="linear_series",
        name="linear_series",
        task="series-classification",
        input=SeriesInput(variates=shape.variates, length=shape.length),
        classes=shape.classes,
        embed=part("values_and_spectrum"),
        stages=(StageSpec(ValuesAndSpectrum.features(shape.variates, (shape.length,)), ()),),
        head=part("classifier"),
    )
