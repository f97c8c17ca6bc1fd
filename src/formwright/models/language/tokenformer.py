"""TokenFormer: a decoder whose every dense layer is attention to parameter tokens, so that it grows by more of them.

Layer norms in the blocks have no weights; a quarter of each head's channels turn with the position.

Source: TokenFormer, arXiv 2410.23168; the authors' code, Haiyang-W/TokenFormer.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import torch

from formwright.models import Network, derive, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.language.transformer import DECIDED, decoder
from formwright.nn.specification import ChainSpec, part


@derive(decoder, family="tokenformer", without=DECIDED, vocabulary=50304, length=2048)
def tokenformer(
    base: Callable[..., ChainSpec],
    *,
    dim: int,
    depth: int,
    tokens: int | None = None,
    mlp_tokens: int | None = None,
    normalization: str = "l2_norm_gelu",
) -> ChainSpec:
    """A TokenFormer; other options are those of :func:`decoder`, the vocabulary GPT-NeoX's, padded.

    Args:
        tokens: parameter tokens of each projection of attention; ``dim`` if unset.
        mlp_tokens: those of the channel mixer; four times ``tokens`` if unset.
        normalization: from scores to the weights of parameter tokens.
    """
    tokens = dim if tokens is None else tokens
    options = {"normalization": normalization, "value_std": 2 / (depth * math.sqrt(dim))}
    specification = base(
        mixers=part("pattention_attention", tokens=tokens, **options),
        channel_mixer=part("pattention", tokens=mlp_tokens or 4 * tokens, **options),
        norm=part("layer_norm", affine=False),
        rotary={"fraction": 0.25},
    )
    return dataclasses.replace(specification, head=specification.head.with_options(norm=part("layer_norm")))


_OPENWEBTEXT = {"dim": 1024, "depth": 24, "heads": 16, "length": 1024}

register_family(
    tokenformer,
    {
        "tokenformer_150m": {"dim": 768, "depth": 12, "heads": 12},
        "tokenformer_450m": {"dim": 1024, "depth": 24, "heads": 16},
        "tokenformer_900m": {"dim": 1280, "depth": 32, "heads": 16},
        "tokenformer_1_5b": {"dim": 1536, "depth": 40, "heads": 16},
        "tokenformer_354m_openwebtext2": {**_OPENWEBTEXT, "tokens": 768},
        "tokenformer_757m_openwebtext2": {**_OPENWEBTEXT, "tokens": 1792},
    },
    family="tokenformer",
    task="language-modelling",
)

#: The pipeline of the authors' code: the embedding, a reshaping, the blocks, a reshaping, the norm.
_FIRST_BLOCK = 2
_BLOCK = r"sequential\.(\d+)\."


def _block(match: re.Match[str]) -> str:
    branch, projection = (0, match[3]) if match[2] == "attention" else (1, None)
    inner = {"query": "q.", "key": "k.", "value": "v.", "proj": "proj.", None: ""}[projection]
    path = f"backbone.stages.0.blocks.{int(match[1]) - _FIRST_BLOCK}.branches.{branch}.part"
    return f"{path}.{inner}{match[4]}s"


def _scales(state: State, model: Network) -> State:
    """Each layer's scale is the root of its number of parameter tokens."""
    for name, tensor in list(state.items()):
        if name.endswith(".keys"):
            state[name.removesuffix("keys") + "scale"] = torch.tensor(math.sqrt(len(tensor)), dtype=tensor.dtype)
    if getattr(model.head, "tied", False):
        state.pop("head.linear.weight", None)
    return state


register_layout(
    "tokenformer",
    Layout(
        name="the authors",
        marker=r"param_tokens$",
        renames=(
            (_BLOCK + r"(attention|mlp)(?:\.(query|key|value|proj))?\.(key|value)_param_tokens", _block),
            (r"sequential\.\d+\.word_embeddings\.weight", "backbone.embed.weight"),
            (r"sequential\.\d+\.norm\.(.*)", r"head.norm.\1"),
            (r"sequential\.\d+\.final_linear\.weight", "head.linear.weight"),
            (r".*\.(inv_freq|rotary_emb\..*)", None),
        ),
        convert=_scales,
    ),
)
