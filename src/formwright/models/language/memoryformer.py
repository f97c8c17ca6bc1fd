"""MemoryFormer: a decoder whose dense layers are tables that the signs of a token look up.

Only the products of attention and the scores of the vocabulary remain matrix products; the tables hold many more
weights than dense layers would.

Source: MemoryFormer, arXiv 2411.12992; the authors' code, C0-Design/MemoryFormer, has RMS norms before the branches, a
layer norm inside the channel mixer, and scales rows by another score than the paper's (``score=...``). Its RMS norms
add epsilon to the root, and not under it as here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from formwright.models import Network, derive, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.language.transformer import DECIDED, decoder
from formwright.nn.specification import ChainSpec, part


@derive(decoder, family="memoryformer", without=DECIDED, tied=False, vocabulary=50304, length=2048)
def memoryformer(
    base: Callable[..., ChainSpec],
    *,
    bits: int = 8,
    extra_bits: int = 2,
    score: str = "vertex_probability",
    norm_eps: float = 1e-8,
) -> ChainSpec:
    """A MemoryFormer; other options are those of :func:`decoder`, the vocabulary Pythia's, padded.

    Args:
        bits: channels that a table hashes.
        extra_bits: by how many those of the channel mixer's second layer hash more.
        score: ``vertex_probability``, the paper's, or ``scaled_vertex_probability``, the released code's.
    """
    return base(
        mixers=part("lookup_attention", bits=bits, score=score),
        channel_mixer=part("lookup_mlp", bits=bits, extra_bits=extra_bits, score=score),
        norm=part("rms_norm", eps=norm_eps),
        rotary={"fraction": 0.25},
    )


register_family(
    memoryformer,
    {
        "memoryformer_tiny": {"dim": 512, "depth": 6, "heads": 8},
        "memoryformer_small": {"dim": 768, "depth": 6, "heads": 8},
    },
    family="memoryformer",
    task="language-modelling",
)

_FIRST_BLOCK = 2
_BLOCK = r"sequential\.(\d+)\."


def _path(match: re.Match[str]) -> str:
    return f"backbone.stages.0.blocks.{int(match[1]) - _FIRST_BLOCK}.branches."


def _one_table(state: State, model: Network) -> State:
    """Queries, keys and values have one table, side by side."""
    fused: State = {}
    for name, tensor in state.items():
        path, projection, leaf = name.partition(".query.")
        if projection:
            parts = [tensor, state[f"{path}.key.{leaf}"], state[f"{path}.value.{leaf}"]]
            fused[f"{path}.lookup.{leaf}"] = torch.cat(parts, dim=-1)
        elif ".key." not in name and ".value." not in name:
            fused[name] = tensor
    return fused


register_layout(
    "memoryformer",
    Layout(
        name="the authors",
        marker=r"attention\.query_proj\.tables$",
        renames=(
            (_BLOCK + r"input_layernorm\.scale", lambda match: _path(match) + "0.norm.weight"),
            (
                _BLOCK + r"attention\.(query|key|value)_proj\.(.*)",
                lambda match: f"{_path(match)}0.part.{match[2]}.{match[3]}",
            ),
            (_BLOCK + r"post_attention_layernorm\.scale", lambda match: _path(match) + "1.norm.weight"),
            (
                _BLOCK + r"mlp\.([012])\.(.*)",
                lambda match: f"{_path(match)}1.part.{('first', 'norm', 'second')[int(match[2])]}.{match[3]}",
            ),
            (r"sequential\.\d+\.word_embeddings\.weight", "backbone.embed.weight"),
            (r"sequential\.\d+\.norm\.scale", "head.norm.weight"),
            (r"sequential\.\d+\.final_linear\.weight", "head.linear.weight"),
            (r".*\.(inv_freq|rotary_emb\..*)", None),
        ),
        convert=_one_table,
    ),
)
