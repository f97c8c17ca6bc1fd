"""iTransformer: a token is the whole window of a variate; attention mixes variates, the MLP works within them.

No weight depends on how many variates there are: a trained model takes any number, in any order. Covariates (calendar
features in the authors' runs) come as further variates behind the others; they are tokens that nothing is forecast of.

Sources: iTransformer: Inverted Transformers Are Effective for Time Series Forecasting, arXiv 2310.06625. Equal to the
authors' code, from whose scripts the widths come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from formwright.candidates import candidate
from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, SeriesInput, StageSpec, part
from formwright.shapes import SeriesShape

_NORM = part("layer_norm")


def itransformer(
    *,
    name: str = "itransformer",
    dim: int = 512,
    hidden: int = 2048,
    depth: int = 2,
    heads: int = 8,
    dropout: float = 0.1,
    mixer: PartSpec | None = None,
    normalise: bool = True,
    length: int = 96,
    horizon: int = 96,
    variates: int = 7,
    covariates: int = 0,
) -> ChainSpec:
    """An iTransformer that forecasts.

    Args:
        dim: channels of a token.
        hidden: hidden width of the MLP.
        depth: number of blocks.
        heads: attention heads.
        dropout: share of values dropped in training: of tokens, attention weights, hidden values and branches.
        mixer: another token mixer than softmax attention: linear and window attention, say.
        normalise: whether mean and standard deviation of each window are taken out and put back.
        length: steps of the past that the model reads.
        horizon: steps to forecast.
        variates: variates to forecast.
        covariates: variates behind them that are not forecast.
    """
    if mixer is None:
        mixer = part("attention", heads=heads, qkv_bias=True, dropout=dropout, attention_dropout=dropout)
    block = BlockSpec(
        (
            BranchSpec(mixer, post_norm=_NORM),
            BranchSpec(part("mlp", hidden=hidden, dropout=dropout), post_norm=_NORM),
        )
    )
    return ChainSpec(
        family="itransformer",
        name=name,
        task="forecasting",
        input=SeriesInput(variates=variates + covariates, length=length),
        classes=horizon,
        embed=part("inverted_embedding", covariates=covariates, normalise=normalise, dropout=dropout),
        stages=(StageSpec(dim=dim, blocks=(block,) * depth),),
        head=part("forecast", norm=_NORM, covariates=covariates),
        initialization="fan_in",
    )


#: Widths of the authors' scripts by data set and horizon, for windows of 96 steps.
_WIDTHS = {
    "etth1": {96: 256, 192: 256, 336: 512, 720: 512},
    "etth2": {96: 128, 192: 128, 336: 128, 720: 128},
}

register_family(
    itransformer,
    {
        "itransformer": {},
        "iflowformer": {"mixer": part("flow_attention", heads=8, qkv_bias=True)},
        "iinformer": {"mixer": part("prob_sparse_attention", heads=8, qkv_bias=True)},
        "iinformer_scrambled": {"mixer": part("prob_sparse_attention", heads=8, qkv_bias=True, scrambled=True)},
        **{
            f"itransformer_{data}_{horizon}": {"dim": dim, "hidden": dim, "horizon": horizon, "covariates": 4}
            for data, widths in _WIDTHS.items()
            for horizon, dim in widths.items()
        },
    },
    family="itransformer",
    task="forecasting",
)


def _fuse(state: State, model: Network) -> State:
    """Queries, keys and values become one matrix."""
    for index in range(len(model.specification.stages[0].blocks)):
        own = f"backbone.stages.0.blocks.{index}.branches.0.part"
        for leaf in ("weight", "bias"):
            parts = [state.pop(f"{own}.{which}_projection.{leaf}") for which in ("query", "key", "value")]
            state[f"{own}.qkv.{leaf}"] = torch.cat(parts)
    return state


_BLOCK = r"backbone.stages.0.blocks.\1.branches"

register_layout(
    "itransformer",
    Layout(
        name="thuml/iTransformer",
        marker=r"^enc_embedding\.value_embedding\.",
        renames=(
            (r"enc_embedding\.value_embedding\.(.*)", r"backbone.embed.linear.\1"),
            (r"encoder\.attn_layers\.(\d+)\.attention\.out_projection\.(.*)", _BLOCK + r".0.part.proj.\2"),
            (r"encoder\.attn_layers\.(\d+)\.attention\.(.*)", _BLOCK + r".0.part.\2"),
            (r"encoder\.attn_layers\.(\d+)\.norm1\.(.*)", _BLOCK + r".0.post_norm.\2"),
            (r"encoder\.attn_layers\.(\d+)\.conv1\.(.*)", _BLOCK + r".1.part.fc1.\2"),
            (r"encoder\.attn_layers\.(\d+)\.conv2\.(.*)", _BLOCK + r".1.part.fc2.\2"),
            (r"encoder\.attn_layers\.(\d+)\.norm2\.(.*)", _BLOCK + r".1.post_norm.\2"),
            (r"encoder\.norm\.(.*)", r"head.norm.\1"),
            (r"projector\.(.*)", r"head.linear.\1"),
        ),
        convert=_fuse,
    ),
)


#: How small forecasters are trained, and how they are proposed.
FORECASTER_RECIPE: Mapping[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "ema_decay": 0.99,
}
SMALL_FORECASTER: Mapping[str, Any] = {"recipe": FORECASTER_RECIPE, "first": {"depth": 2}, "narrow": 0}


@candidate("forecasting", "itransformer", order=10, **SMALL_FORECASTER)
def _for_series(shape: SeriesShape, width: int, depth: int, mixer: PartSpec | None = None) -> ChainSpec:
    return itransformer(
        dim=width,
        hidden=2 * width,
        depth=depth,
        heads=max(width // 16, 1),
        dropout=0.1,
        mixer=mixer,
        **shape.input,
    )


@candidate("forecasting", "variates-apart", order=30, **SMALL_FORECASTER)
def _apart(shape: SeriesShape, width: int, depth: int) -> ChainSpec:
    """Each variate by itself: what mixing them has to be better than."""
    return _for_series(shape, width, depth, part("identity"))


@candidate("forecasting", "iflowformer", order=40, **SMALL_FORECASTER)
def _flow(shape: SeriesShape, width: int, depth: int) -> ChainSpec:
    return _for_series(shape, width, depth, part("flow_attention", heads=max(width // 16, 1), qkv_bias=True))
