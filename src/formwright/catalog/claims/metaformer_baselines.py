"""Claims of the MetaFormer baselines: sizes of the README and the authors' code, their outputs, and StarReLU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.pictures import SIDE, picture_contest
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims
from formwright.models.vision.metaformer_baselines import metaformer_baselines
from formwright.nn.activations import build_activation
from formwright.nn.specification import ChainSpec
from formwright.reporting import Reporter

#: Operations an element, as the paper counts: GELU in its form with a tanh, which counts for six.
_OPERATIONS = {"relu": 1, "pow": 1, "mul": 1, "add": 1, "addcmul": 2, "gelu": 14}


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of what runs under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += _OPERATIONS[func.overloadpacket.__name__] * result.numel()
        return result


def _operations(activation: str) -> int:
    module, x = build_activation(activation), torch.randn(1000)
    with torch.no_grad(), _Operations() as operations:
        module(x)
    return operations.count // len(x)


def _fewer_operations(reporter: Reporter) -> ClaimResult:
    star_relu, gelu = _operations("star_relu"), _operations("gelu")
    saved = 1 - star_relu / gelu
    return ClaimResult(f"{saved:.0%} fewer", round(saved, 2) == 0.71, f"{star_relu} instead of {gelu} an element")


def _small(channels: int, classes: int, *, activation: str) -> ChainSpec:
    return metaformer_baselines(
        depths=(2, 2, 2),
        dims=(64, 96, 128),
        mixers=("pooling",) * 3,
        norm="group_norm",
        residual_scale=(None, None, 1.0),
        activation=activation,
        image_size=SIDE,
        channels=channels,
        classes=classes,
    )


ACTIVATIONS = picture_contest(
    {
        "star_relu": lambda channels, classes: _small(channels, classes, activation="star_relu"),
        "gelu": lambda channels, classes: _small(channels, classes, activation="gelu"),
    }
)


def _at_least_gelu(accuracy: Mapping[str, float]) -> bool:
    return accuracy["star_relu"] >= accuracy["gelu"]


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "identityformer_s12": 11_891_712,
            "identityformer_s24": 21_341_464,
            "identityformer_s36": 30_791_216,
            "identityformer_m36": 56_077_168,
            "identityformer_m48": 73_346_056,
            "randformer_s12": 12_127_010,
            "randformer_s24": 21_812_060,
            "randformer_s36": 31_497_110,
            "randformer_m36": 56_783_062,
            "randformer_m48": 74_287_248,
            "poolformerv2_s12": 11_891_712,
            "poolformerv2_s24": 21_341_464,
            "poolformerv2_s36": 30_791_216,
            "poolformerv2_m36": 56_077_168,
            "poolformerv2_m48": 73_346_056,
            "convformer_s18": 26_774_448,
            "convformer_s36": 40_012_152,
            "convformer_m36": 57_051_640,
            "convformer_b36": 99_882_616,
            "caformer_s18": 26_341_656,
            "caformer_s36": 39_297_102,
            "caformer_m36": 56_204_878,
            "caformer_b36": 98_753_614,
        }
    ),
    *mac_claims(
        {
            "identityformer_s12": 1.81e9,
            "identityformer_s24": 3.39e9,
            "identityformer_s36": 4.97e9,
            "identityformer_m36": 8.76e9,
            "identityformer_m48": 11.5e9,
            "randformer_s12": 1.89e9,
            "randformer_s24": 3.54e9,
            "randformer_s36": 5.20e9,
            "randformer_m36": 9.04e9,
            "randformer_m48": 11.9e9,
            "poolformerv2_s12": 1.81e9,
            "poolformerv2_s24": 3.39e9,
            "poolformerv2_s36": 4.97e9,
            "poolformerv2_m36": 8.76e9,
            "poolformerv2_m48": 11.5e9,
            "convformer_s18": 3.94e9,
            "convformer_s36": 7.64e9,
            "convformer_m36": 12.8e9,
            "convformer_b36": 22.6e9,
            "caformer_s18": 4.11e9,
            "caformer_s36": 7.97e9,
            "caformer_m36": 13.2e9,
            "caformer_b36": 23.2e9,
        }
    ),
    *output_claims("metaformer-baselines", "sail-sg/metaformer"),
    Claim("star-relu-operations", "count", "operations of StarReLU against GELU", "71% fewer", _fewer_operations),
    ACTIVATIONS.claim("star-relu-accuracy", "StarReLU is at least as accurate as GELU", holds=_at_least_gelu),
]
