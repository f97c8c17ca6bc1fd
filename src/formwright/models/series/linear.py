"""DLinear and NLinear: one linear layer from the past of a variate to its future, the same for all variates.

DLinear has one for the moving average of the window and one for the rest; NLinear one for the window less its last
value. They are the baselines that a Transformer has to beat.

Source: Are Transformers Effective for Time Series Forecasting?, arXiv 2205.13504, with weights shared among variates.
"""

from __future__ import annotations

from formwright.candidates import candidate
from formwright.models import model_specification, register_family
from formwright.models.checkpoints import Layout, register_layout
from formwright.models.series.itransformer import FORECASTER_RECIPE
from formwright.nn.specification import ChainSpec, PartSpec, SeriesInput, StageSpec, part
from formwright.shapes import SeriesShape


def linear_forecaster(
    *,
    name: str = "dlinear",
    head: PartSpec,
    length: int = 96,
    horizon: int = 96,
    variates: int = 7,
    covariates: int = 0,
) -> ChainSpec:
    """A linear forecaster.

    Args:
        head: ``decomposed_linear`` or ``last_value_linear``.
        length: steps of the past that the model reads.
        horizon: steps to forecast.
        variates: variates to forecast.
        covariates: variates behind them, which are ignored.
    """
    return ChainSpec(
        family="linear_forecaster",
        name=name,
        task="forecasting",
        input=SeriesInput(variates=variates + covariates, length=length),
        classes=horizon,
        embed=part("variate_tokens"),
        stages=(StageSpec(dim=length, blocks=()),),
        head=head.with_options(covariates=covariates),
        initialization="fan_in",
    )


register_family(
    linear_forecaster,
    {"dlinear": {"head": part("decomposed_linear")}, "nlinear": {"head": part("last_value_linear")}},
    family="linear_forecaster",
    task="forecasting",
)

register_layout(
    "linear_forecaster",
    Layout(
        name="cure-lab/LTSF-Linear",
        marker=r"^Linear",
        renames=(
            (r"Linear_Seasonal\.(.*)", r"head.seasonal.\1"),
            (r"Linear_Trend\.(.*)", r"head.trend.\1"),
            (r"Linear\.(.*)", r"head.linear.\1"),
        ),
    ),
)


_RECIPE = {**FORECASTER_RECIPE, "weight_decay": 0.0}


@candidate("forecasting", "linear_forecaster", order=20, recipe=_RECIPE, choices={}, plain="plain DLinear")
def _for_series(shape: SeriesShape) -> ChainSpec:
    """Its only sizes are the look-back and the horizon."""
    specification: ChainSpec = model_specification("dlinear", **shape.input)
    return specification
