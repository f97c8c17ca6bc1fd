"""Transformers whose tokens are times: the forecaster that iTransformer inverts, and classifiers of series.

The forecaster embeds each time step of all variates (a circular convolution of three steps, sinusoidal positions) and
each step to forecast, whose values are zero until they are known: an encoder in the place of encoder and decoder. The
classifiers cut a series into patches, mix them by attention or by depthwise convolutions, and pool. They are what
others are compared with and what a search combines; no paper's checkpoints belong to them, so they have no names.

Sources: Informer, arXiv 2012.07436 (the embedding); Attention Is All You Need, arXiv 1706.03762; the patches: A Time
Series is Worth 64 Words, arXiv 2211.14730; convolutional mixing: MetaFormer Baselines for Vision, arXiv 2210.13452.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from formwright.candidates import candidate
from formwright.models.series.itransformer import SMALL_FORECASTER
from formwright.models.topologies.forecaster import ForecasterSpec
from formwright.nn.specification import (
    BlockSpec,
    BranchSpec,
    ChainSpec,
    NetworkSpec,
    PartSpec,
    SeriesInput,
    StageSpec,
    part,
)
from formwright.shapes import LabelledShape, SeriesShape

_NORM = part("layer_norm")


def temporal_transformer(
    *,
    name: str = "temporal_transformer",
    dim: int = 128,
    hidden: int = 128,
    depth: int = 2,
    heads: int = 8,
    dropout: float = 0.1,
    mixer: PartSpec | None = None,
    normalise: bool = False,
    length: int = 96,
    horizon: int = 96,
    variates: int = 7,
    covariates: int = 0,
) -> ForecasterSpec:
    """A forecaster with a token for each time step.

    Args:
        dim: channels of a token.
        hidden: hidden width of the MLP.
        depth: number of blocks.
        heads: attention heads.
        dropout: share of values dropped in training.
        mixer: another token mixer than softmax attention.
        normalise: whether mean and standard deviation of each window are taken out and put back.
        length: steps of the past that the model reads.
        horizon: steps to forecast.
        variates: variates to forecast.
        covariates: variates behind them that are not forecast; those of the steps ahead may be given as ``future``.
    """
    if mixer is None:
        mixer = part("attention", heads=heads, qkv_bias=True, dropout=dropout, attention_dropout=dropout)
    block = BlockSpec(
        (
            BranchSpec(mixer, post_norm=_NORM),
            BranchSpec(part("mlp", hidden=hidden, dropout=dropout), post_norm=_NORM),
        )
    )
    return ForecasterSpec(
        family="temporal_transformer",
        name=name,
        task="forecasting",
        input=SeriesInput(variates=variates + covariates, length=length),
        horizon=horizon,
        covariates=covariates,
        normalise=normalise,
        embed=part("temporal_embedding", dropout=dropout),
        stages=(StageSpec(dim=dim, blocks=(block,) * depth),),
        head=part("token_scores", norm=_NORM, bias=True),
        initialization="fan_in",
    )


def patch_classifier(
    *,
    name: str = "patch_classifier",
    dim: int = 64,
    depth: int = 2,
    mixer: PartSpec,
    patch_size: int = 8,
    stride: int | None = None,
    positions: bool = False,
    drop_path: float = 0.0,
    normalise: bool = False,
    classes: int = 2,
    length: int = 96,
    variates: int = 1,
) -> ChainSpec:
    """A classifier of series cut into patches.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        mixer: the token mixer.
        patch_size: steps of a patch.
        stride: steps between patches; half a patch if unset.
        positions: whether a learned vector is added to each place.
        drop_path: share of branches dropped in training.
        normalise: whether mean and standard deviation of each series are taken out.
        classes: number of classes.
        length: steps of a series.
        variates: variates of a series.
    """
    block = BlockSpec(
        (
            BranchSpec(mixer, norm=_NORM, drop_path=drop_path),
            BranchSpec(part("mlp", ratio=2.0), norm=_NORM, drop_path=drop_path),
        )
    )
    stride = max(patch_size // 2, 1) if stride is None else stride
    return ChainSpec(
        family="patch_classifier",
        name=name,
        task="series-classification",
        input=SeriesInput(variates=variates, length=length),
        classes=classes,
        embed=part("series_patches", kernel=patch_size, stride=stride, normalise=normalise),
        stages=(StageSpec(dim=dim, blocks=(block,) * depth, entry=(part("position_table"),) if positions else ()),),
        head=part("classifier", norm=_NORM),
        initialization="fan_in",
    )


@candidate("forecasting", "temporal_transformer", order=50, **SMALL_FORECASTER)
def _for_series(shape: SeriesShape, width: int, depth: int) -> NetworkSpec:
    return temporal_transformer(
        dim=width,
        hidden=2 * width,
        depth=depth,
        heads=max(width // 16, 1),
        dropout=0.1,
        normalise=True,
        **shape.input,
    )


_CLASSIFIER: Mapping[str, Any] = {
    "recipe": {"optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.05, "ema_decay": 0.99},
    "first": {"depth": 2},
    "narrow": 0,
}


def _classifier(shape: LabelledShape, width: int, depth: int, mixer: PartSpec, *, positions: bool = True) -> ChainSpec:
    """Some 32 overlapping patches of each series."""
    made = patch_classifier(
        dim=width,
        depth=depth,
        mixer=mixer,
        patch_size=max(2, min(shape.length // 4, round(shape.length / 16))),
        positions=positions,
        classes=shape.classes,
        length=shape.length,
        variates=shape.variates,
    )
    return dataclasses.replace(made, task=shape.task)


@candidate("series-classification", "patch-convolutions", order=10, **_CLASSIFIER)
@candidate("series-regression", "patch-convolutions", order=10, **_CLASSIFIER)
def _convolutional(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _classifier(shape, width, depth, part("depthwise_convolution", kernel=7), positions=False)


@candidate("series-classification", "patch-attention", order=20, plain="plain Transformer", **_CLASSIFIER)
@candidate("series-regression", "patch-attention", order=20, plain="plain Transformer", **_CLASSIFIER)
def _attending(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _classifier(shape, width, depth, part("attention", heads=max(width // 16, 1), qkv_bias=True))


@candidate("series-classification", "patch-flow", order=30, **_CLASSIFIER)
@candidate("series-regression", "patch-flow", order=30, **_CLASSIFIER)
def _flowing(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _classifier(shape, width, depth, part("flow_attention", heads=max(width // 16, 1)))


@candidate("series-classification", "patch-pooling", order=40, **_CLASSIFIER)
@candidate("series-regression", "patch-pooling", order=40, **_CLASSIFIER)
def _pooling(shape: LabelledShape, width: int, depth: int) -> ChainSpec:
    return _classifier(shape, width, depth, part("pooling"))
