"""MatFormer: a Llama that is trained so that the first hidden channels of its gated MLPs are smaller models.

Built, it is a Llama; train it with :class:`~formwright.objectives.nested.NestedTraining`, and cut smaller models out of
it with :func:`formwright.compression.choices.extract`.

Source: MatFormer, arXiv 2310.07707; the authors' code, devvrit/matformer, applies the activation to the product of both
projections, by which it is no Llama any more (``channel_mixer="activated_product_glu"`` here).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from formwright.models import MODELS, register_family
from formwright.models.checkpoints import LAYOUTS, register_layout
from formwright.models.language.llama import llama
from formwright.models.language.transformer import with_channel_mixer
from formwright.nn.specification import ChainSpec, part


def matformer(
    *,
    name: str = "matformer",
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    kv_heads: int | None = None,
    channel_mixer: str = "glu",
    norm_eps: float = 1e-5,
    rotary: Mapping[str, Any] | None = {},
    tied: bool = False,
    vocabulary: int = 32000,
    length: int = 4096,
    padding: int | None = None,
    classes: int | None = None,
) -> ChainSpec:
    """A MatFormer in Llama's shape (MatLM).

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        hidden: hidden width of the gated MLP of the largest model.
        kv_heads: heads of keys and values; ``heads`` if unset.
        channel_mixer: ``glu``, or ``activated_product_glu`` as in the authors' released code.
        rotary: options of the rotary positions.
        tied: whether the scores use the weight of the token embedding.
        classes: number of classes of texts; predicts tokens if unset.
    """
    specification = llama(
        name=name,
        dim=dim,
        depth=depth,
        heads=heads,
        hidden=hidden,
        kv_heads=kv_heads,
        norm_eps=norm_eps,
        rotary=rotary,
        tied=tied,
        vocabulary=vocabulary,
        length=length,
        padding=padding,
        classes=classes,
    )
    mixer = part(channel_mixer, hidden=hidden)
    return dataclasses.replace(with_channel_mixer(specification, mixer), family="matformer")


register_family(
    matformer,
    {
        "matformer_llama3_2_1b": MODELS["llama3_2_1b"].options,
        "matformer_small": {"dim": 256, "depth": 4, "heads": 4, "hidden": 1024, "vocabulary": 258, "length": 1024},
    },
    family="matformer",
    task="language-modelling",
)

for _layout in LAYOUTS["llama"]:
    register_layout("matformer", _layout)
