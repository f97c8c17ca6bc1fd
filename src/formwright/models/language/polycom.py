"""PolyCom: a Llama-shaped decoder whose plain MLPs have a learned polynomial activation.

The MLPs are half as wide again as Llama's gated ones, so that both have the same number of weights.

Source: Polynomial Composition Activations, arXiv 2411.03884; sizes from the authors' code, BryceZhuo/PolyCom.
"""

from __future__ import annotations

import dataclasses

from formwright.models import register_family
from formwright.models.language.llama import llama
from formwright.models.language.transformer import with_channel_mixer
from formwright.nn.specification import ChainSpec, part


def polycom(
    *,
    name: str = "polycom",
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    activation: str = "poly_norm",
    tied: bool = False,
    vocabulary: int = 32000,
    length: int = 4096,
    padding: int | None = None,
    classes: int | None = None,
) -> ChainSpec:
    """A Llama with plain MLPs.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        hidden: hidden width of the MLP.
        activation: ``poly_norm``, ``poly_relu``, or what they are compared with (``relu``, ``gelu``, ``squared_relu``).
        tied: whether the scores use the weight of the token embedding.
        classes: number of classes of texts; predicts tokens if unset.
    """
    specification = llama(
        name=name,
        dim=dim,
        depth=depth,
        heads=heads,
        hidden=hidden,
        tied=tied,
        vocabulary=vocabulary,
        length=length,
        padding=padding,
        classes=classes,
    )
    mlp = part("mlp", hidden=hidden, activation=activation, bias=False)
    return dataclasses.replace(with_channel_mixer(specification, mlp), family="polycom")


_1B = {"dim": 2048, "depth": 24, "heads": 16, "hidden": 5504 * 3 // 2}

register_family(
    polycom,
    {
        "polynorm_1b": {**_1B, "activation": "poly_norm"},
        "polyrelu_1b": {**_1B, "activation": "poly_relu"},
    },
    family="polycom",
    task="language-modelling",
)
