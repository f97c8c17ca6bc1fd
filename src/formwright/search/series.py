"""What may be proposed for series: forecasters with a variate or a time step as token, and classifiers of patches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from formwright.models import model_specification
from formwright.models.series.itransformer import itransformer
from formwright.models.series.temporal import patch_classifier, temporal_transformer
from formwright.nn.specification import ChainSpec, PartSpec, part
from formwright.search.space import SPACES, Family, Peer, Proposal, Space
from formwright.shapes import LabelledShape, SeriesShape
from formwright.training.recipe import Recipe

#: Channels of a token in a multiple of heads of 16.
WIDTHS = (16, 32, 64, 128, 256)
DEPTHS = (1, 2, 3)
DROPOUT = 0.1


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


def _linear(shape: SeriesShape, width: int, depth: int) -> ChainSpec:
    """Its only sizes are the look-back and the horizon."""
    return model_specification("dlinear", **_sizes(shape))


_FORECASTING = Recipe(optimizer="adamw", learning_rate=1e-3, weight_decay=0.01, ema_decay=0.99)

#: In the order in which they are tried when time is short.
FORECASTERS: Mapping[str, Family] = {
    "itransformer": Family(_inverted, _FORECASTING, narrow=0),
    "linear_forecaster": Family(_linear, dataclasses.replace(_FORECASTING, weight_decay=0.0), narrow=0),
    "variates-apart": Family(_apart, _FORECASTING, narrow=0),
    "iflowformer": Family(_flow, _FORECASTING, narrow=0),
    "temporal_transformer": Family(_temporal, _FORECASTING, narrow=0),
}


@SPACES.register("forecasting")
class ForecastSpace(Space):
    """Forecasters for windows of a shape."""

    families = FORECASTERS
    widths = WIDTHS
    depths = DEPTHS
    peer = Peer("plain DLinear", "linear_forecaster")
    left_out = "No family can take windows of this shape"

    def __init__(self, shape: SeriesShape) -> None:
        self.shape = shape

    def propose(self, family: str, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
        entry = self.families[family]
        specification = entry.build(self.shape, width, depth)
        batch = 64 if self.shape.windows >= 4000 else 32 if self.shape.windows >= 500 else 16
        recipe = _scaled(entry.recipe, rate, batch, self.shape.windows)
        size = "" if family == "linear_forecaster" else f", {depth} blocks of {width}"
        name = f"{family} {self.shape.length} to {self.shape.horizon} steps{size}"
        return Proposal(family, name, _choices(family, width, depth, rate), specification, recipe)


def _scaled(recipe: Recipe, rate: float, batch: int, samples: int) -> Recipe:
    return dataclasses.replace(
        recipe,
        learning_rate=recipe.learning_rate * rate,
        vector_learning_rate=recipe.vector_learning_rate * rate,
        batch_size=batch,
        warmup=int(min(50, max(10, samples / batch))),
    )


def _choices(family: str, width: int, depth: int, rate: float) -> dict[str, object]:
    return {"family": family, "width": width, "depth": depth, "rate": rate}


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
    "patch-convolutions": Family(_convolutional, _CLASSIFYING, narrow=0),
    "patch-attention": Family(_attending, _CLASSIFYING, narrow=0),
    "patch-flow": Family(_flowing, _CLASSIFYING, narrow=0),
    "patch-pooling": Family(_pooling, _CLASSIFYING, narrow=0),
}


@SPACES.register("series-classification")
class SeriesClassSpace(Space):
    """Classifiers for series of a shape."""

    families = CLASSIFIERS
    widths = WIDTHS
    depths = DEPTHS
    peer = Peer("plain Transformer", "patch-attention")
    left_out = "No family can take series of this shape"

    def __init__(self, shape: LabelledShape) -> None:
        self.shape = shape

    def propose(self, family: str, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
        entry = self.families[family]
        specification = entry.build(self.shape, width, depth)
        batch = 64 if self.shape.series >= 1000 else 32 if self.shape.series >= 200 else 16
        recipe = _scaled(entry.recipe, rate, batch, self.shape.series)
        name = f"{family}, {depth} blocks of {width}"
        return Proposal(family, name, _choices(family, width, depth, rate), specification, recipe)
