"""PolyCom: a Llama-shaped decoder whose plain MLPs have a learned polynomial activation.

The MLPs are half as wide again as Llama's gated ones, so that both have the same number of weights.

Source: Polynomial Composition Activations, arXiv 2411.03884; sizes from the authors' code, BryceZhuo/PolyCom.
"""

from __future__ import annotations

from collections.abc import Callable

from formwright.models import derive, register_family
from formwright.models.language.llama import llama
from formwright.models.language.transformer import with_channel_mixer
from formwright.nn.specification import ChainSpec, part


@derive(llama, family="polycom", without=("kv_heads", "head_dim", "window", "norm_eps", "rotary"))
def polycom(base: Callable[..., ChainSpec], *, hidden: int, activation: str = "poly_norm") -> ChainSpec:
    """A Llama with plain MLPs; other options are those of :func:`llama`.

    Args:
        hidden: hidden width of the MLP.
        activation: ``poly_norm``, ``poly_relu``, or what they are compared with (``relu``, ``gelu``, ``squared_relu``).
    """
    return with_channel_mixer(base(), part("mlp", hidden=hidden, activation=activation, bias=False))


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
