"""What may be proposed for series: forecasters with a variate or a time step as token, and classifiers of patches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from formwright.models import model_specification
from formwright.models.series.itransformer import itransformer
from formwright.models.series.temporal import patch_classifier, temporal_transformer
from formwright.nn.specification import ChainSpec, PartSpec, part
from formwright.search.open_choices import Categorical, Open
from formwright.search.space import Family, Space
from formwright.training.recipe import Recipe

#: Channels of a token in a multiple of heads of 16.
WIDTHS = (16, 32, 64, 128, 256)
DEPTHS = (1, 2, 3)
#: What is open in the models of all families but the linear one.
SIZES: Mapping[str, Open] = {"width": Categorical(WIDTHS), "depth": Categorical(DEPTHS)}
DROPOUT = 0.1


@dataclass(frozen=True)
class SeriesShape:
    """What a space needs to know of the data: ``windows`` are those to train on."""

    length: int
    variates: int
    covariates: int
    horizon: int
    windows: int


@dataclass(frozen=True)
class LabelledShape:
    """What a space needs to know of series with classes."""

    length: int
    variates: int
    classes: int
    series: int


def _sizes(shape: SeriesShape) -> dict[str, Any]:
    return {
        "length": shape.length,
        "horizon": shape.horizon,
        "variates": shape.variates,
        "covariates": shape.covariates,
    }


def _inverted(shape: SeriesShape, width: int, depth: int, mixer: PartSpec | None = None) -> ChainSpec:
    return itransformer(
        dim=width,
        hidden=2 * width,
        depth=depth,
        heads=max(width // 16, 1),
        dropout=DROPOUT,
        mixer=mixer,
        **_sizes(shape),
    )


def _flow(shape: SeriesShape, width: int, depth: int) -> ChainSpec:
    return _inverted(shape, width, depth, part("flow_attention", heads=max(width // 16, 1), qkv_bias=True))


def _apart(shape: SeriesShape, width: int, depth: int) -> ChainSpec:
    """Each variate by itself: what mixing them has to be better than."""
    return _inverted(shape, width, depth, part("identity"))


def _temporal(shape: SeriesShape, width: int, depth: int) -> ChainSpec:
    return temporal_transformer(
        dim=width,
        hidden=2 * width,
        depth=depth,
        heads=max(width // 16, 1),
        dropout=DROPOUT,
        normalise=True,
        **_sizes(shape),
    )


def _linear(shape: SeriesShape) -> ChainSpec:
    """Its only sizes are the look-back and the horizon."""
    return model_specification("dlinear", **_sizes(shape))


_TWO_BLOCKS = {"depth": 2}
_FORECASTING = Recipe(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01, ema_decay=0.99)

#: In the order in which they are tried when time is short.
FORECASTERS: Mapping[str, Family] = {
    "itransformer": Family(_inverted, _FORECASTING, first=_TWO_BLOCKS, narrow=0),
    "linear_forecaster": Family(_linear, dataclasses.replace(_FORECASTING, weight_decay=0.0), choices={}),
    "variates-apart": Family(_apart, _FORECASTING, first=_TWO_BLOCKS, narrow=0),
    "iflowformer": Family(_flow, _FORECASTING, first=_TWO_BLOCKS, narrow=0),
    "temporal_transformer": Family(_temporal, _FORECASTING, first=_TWO_BLOCKS, narrow=0),
}


class ForecastSpace(Space):
    """Forecasters for windows of a shape."""

    families = FORECASTERS
    shared = SIZES
    left_out = "No family can take windows of this shape"

    def __init__(self, shape: SeriesShape) -> None:
        self.shape = shape

    def recipe(self, recipe: Recipe) -> Recipe:
        windows = self.shape.windows
        return _suited(recipe, 64 if windows >= 4000 else 32 if windows >= 500 else 16, windows)

    def title(self, family: str, specification: ChainSpec, choices: Mapping[str, Any]) -> str:
        size = f", {choices['depth']} blocks of {choices['width']}" if choices else ""
        return f"{family} {self.shape.length} to {self.shape.horizon} steps{size}"


def _suited(recipe: Recipe, batch: int, samples: int) -> Recipe:
    return dataclasses.replace(recipe, batch_size=batch, warmup=int(min(50, max(10, samples / batch))))


def _patch_size(length: int) -> int:
    """Some 32 overlapping patches a series."""
    return max(2, min(length // 4, round(length / 16)))


def _patches(shape: LabelledShape, width: int, depth: int, mixer: PartSpec, *, positions: bool) -> ChainSpec:
    return patch_classifier(
        dim=width,
        depth=depth,
        mixer=mixer,
        patch_size=_patch_size(shape.length),
        positions=positions,
        classes=shape.classes,
        length=shape.length,
        variates=shape.variates,
    )


def _convolutional(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _patches(shape, width, depth, part("depthwise_convolution", kernel=7), positions=False)


def _attending(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    mixer = part("attention", heads=max(width // 16, 1), qkv_bias=True)
    return _patches(shape, width, depth, mixer, positions=True)


def _flowing(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _patches(shape, width, depth, part("flow_attention", heads=max(width // 16, 1)), positions=True)


def _pooling(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _patches(shape, width, depth, part("pooling"), positions=True)


_CLASSIFYING = Recipe(optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, ema_decay=0.99)

CLASSIFIERS: Mapping[str, Family] = {
    "patch-convolutions": Family(_convolutional, _CLASSIFYING, first=_TWO_BLOCKS, narrow=0),
    "patch-attention": Family(_attending, _CLASSIFYING, first=_TWO_BLOCKS, narrow=0),
    "patch-flow": Family(_flowing, _CLASSIFYING, first=_TWO_BLOCKS, narrow=0),
    "patch-pooling": Family(_pooling, _CLASSIFYING, first=_TWO_BLOCKS, narrow=0),
}


class SeriesClassSpace(Space):
    """Classifiers for series of a shape."""

    families = CLASSIFIERS
    shared = SIZES
    left_out = "No family can take series of this shape"

    def __init__(self, shape: LabelledShape) -> None:
        self.shape = shape

    def recipe(self, recipe: Recipe) -> Recipe:
        series = self.shape.series
        return _suited(recipe, 64 if series >= 1000 else 32 if series >= 200 else 16, series)

    def title(self, family: str, specification: ChainSpec, choices: Mapping[str, Any]) -> str:
        return f"{family}, {choices['depth']} blocks of {choices['width']}"
