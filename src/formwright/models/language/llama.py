"""Llama: a decoder with rotary positions, RMS norms, gated MLPs and shared keys.

Sources: LLaMA, arXiv 2302.13971; Llama 2, arXiv 2307.09288; The Llama 3 Herd of Models, arXiv 2407.21783. Equal to
transformers' models, whose checkpoints load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from formwright.models import derive, register_family
from formwright.models.checkpoints import Layout, drop_tied_scores, register_layout, stacked
from formwright.models.language.transformer import DECIDED, decoder, without_score_bias
from formwright.nn.specification import ChainSpec, part


@derive(decoder, family="llama", without=DECIDED, rotary={}, tied=False, vocabulary=32000, length=4096)
def llama(
    base: Callable[..., ChainSpec],
    *,
    hidden: int,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    window: int | None = None,
    norm_eps: float = 1e-5,
) -> ChainSpec:
    """A Llama; other options are those of :func:`decoder`.

    Args:
        hidden: hidden width of the gated MLP.
        kv_heads: heads of keys and values; ``heads`` if unset.
        head_dim: channels of a head; ``dim / heads`` if unset.
        window: how many tokens attention sees; all before if unset.
    """
    attention = part("attention", bias=False)
    for option, value in (("kv_heads", kv_heads), ("head_dim", head_dim), ("window", window)):
        if value is not None:
            attention = attention.with_options(**{option: value})
    return without_score_bias(
        base(mixers=attention, channel_mixer=part("glu", hidden=hidden), norm=part("rms_norm", eps=norm_eps))
    )


def _llama3_rotary(factor: float | None) -> dict[str, Any]:
    if factor is None:
        return {"base": 500000.0}
    scaling = {
        "factor": factor,
        "low_frequency_factor": 1.0,
        "high_frequency_factor": 4.0,
        "original_length": 8192,
    }
    return {"base": 500000.0, "scaling": scaling}


_LLAMA3 = {"vocabulary": 128256, "kv_heads": 8}
_LLAMA3_2 = {**_LLAMA3, "length": 131072, "rotary": _llama3_rotary(32.0), "tied": True}

register_family(
    llama,
    {
        "tinyllama_1_1b": {"dim": 2048, "depth": 22, "heads": 32, "kv_heads": 4, "hidden": 5632, "length": 2048},
        "llama_7b": {"dim": 4096, "depth": 32, "heads": 32, "hidden": 11008, "length": 2048, "norm_eps": 1e-6},
        "llama2_7b": {"dim": 4096, "depth": 32, "heads": 32, "hidden": 11008},
        "llama2_13b": {"dim": 5120, "depth": 40, "heads": 40, "hidden": 13824},
        "llama3_8b": {
            **_LLAMA3,
            "dim": 4096,
            "depth": 32,
            "heads": 32,
            "hidden": 14336,
            "length": 8192,
            "rotary": _llama3_rotary(None),
        },
        "llama3_2_1b": {**_LLAMA3_2, "dim": 2048, "depth": 16, "heads": 32, "hidden": 8192},
        "llama3_2_3b": {**_LLAMA3_2, "dim": 3072, "depth": 28, "heads": 24, "hidden": 8192},
    },
    family="llama",
    task="language-modelling",
)


_BLOCK = r"(?:model\.)?layers\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."

register_layout(
    "llama",
    Layout(
        name="transformers",
        marker=r"^(model\.)?layers\.0\.self_attn\.q_proj\.weight$",
        renames=(
            (r".*rotary_emb\.inv_freq", None),
            (_BLOCK + r"input_layernorm\.(.*)", _OURS + r"0.norm.\2"),
            *stacked(_BLOCK + r"self_attn\.{}_proj\.(.*)", "qkv", _OURS + r"0.part.qkv.\2"),
            (_BLOCK + r"self_attn\.o_proj\.(.*)", _OURS + r"0.part.proj.\2"),
            (_BLOCK + r"post_attention_layernorm\.(.*)", _OURS + r"1.norm.\2"),
            (_BLOCK + r"mlp\.(gate|up|down)_proj\.(.*)", _OURS + r"1.part.\2.\3"),
            (r"(?:model\.)?embed_tokens\.weight", r"backbone.embed.weight"),
            (r"(?:model\.)?norm\.weight", r"head.norm.weight"),
            (r"(?:lm_head|score)\.weight", r"head.linear.weight"),
        ),
        convert=drop_tied_scores,
    ),
)
