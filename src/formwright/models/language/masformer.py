"""MASFormer: a decoder with full attention in a few layers and a short sliding window in all others.

In layer ``l`` token ``i`` sees tokens ``j <= i``, all of them if ``l`` is one of the full layers, those with
``j > i - window`` otherwise. Nothing else changes and no parameter is added. While it writes, a local layer keeps the
latest ``window`` keys and values and a full layer all of them: ``|full| * n + (depth - |full|) * window`` of each.

Source: Efficient Long-Range Transformers: You Need to Attend More, but Not Necessarily at Every Layer, arXiv
2310.12442. The authors' code is not public. The decoder is GPT-Neo's (which alternates such layers): transformers'
checkpoints of it load, whatever layers of theirs are local, and give their outputs. Their attention does not divide by
``sqrt(head_dim)``; queries are scaled when weights are loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import torch

from formwright.errors import UnknownNameError, UserError
from formwright.models import Network, derive, register_family
from formwright.models.checkpoints import Layout, State, drop_tied_scores, register_layout
from formwright.models.language.transformer import DECIDED, decoder
from formwright.nn.specification import ChainSpec, part

POLICIES = ("bottom", "top", "even")


def full_layers(depth: int, count: int, policy: str = "bottom") -> tuple[int, ...]:
    """Which ``count`` of ``depth`` layers, numbered from 0, attend to all tokens.

    Args:
        policy: ``bottom`` for the first ones, ``top`` for the last ones, ``even`` for the last of each of ``count``
            equal stretches.

    Raises:
        UserError: there are not so many layers, or there is no such policy.
    """
    if policy not in POLICIES:
        raise UnknownNameError("policy of full layers", policy, POLICIES)
    if not 0 <= count <= depth:
        raise UserError(f"{count} of {depth} layers cannot have full attention; choose from 0 to {depth}.")
    if policy == "even":
        return tuple((number + 1) * depth // count - 1 for number in range(count))
    return tuple(range(count)) if policy == "bottom" else tuple(range(depth - count, depth))


@derive(decoder, family="masformer", without=(*DECIDED, "tied"), dropout=0.0, vocabulary=50257, length=8192)
def masformer(
    base: Callable[..., ChainSpec],
    *,
    dim: int,
    depth: int,
    heads: int,
    full: Sequence[int],
    window: int,
    hidden: int | None = None,
) -> ChainSpec:
    """A MASFormer; other options are those of :func:`decoder`.

    Args:
        full: numbers of the layers, from 0, that attend to all tokens; see :func:`full_layers`.
        window: how many latest tokens the other layers see, the own one included.
        hidden: hidden width of the MLP; four times ``dim`` if unset.

    Raises:
        UserError: there is no such layer, or the window sees nothing.
    """
    wrong = [layer for layer in full if not 0 <= layer < depth]
    if wrong:
        raise UserError(f"There is no layer {wrong[0]}: the {depth} layers are numbered from 0 to {depth - 1}.")
    whole = part("attention", causal=True, heads=heads)
    local = whole.with_options(window=window)
    return base(
        mixers=[whole if layer in full else local for layer in range(depth)],
        channel_mixer=part("mlp", hidden=hidden or 4 * dim, activation="gelu_tanh"),
        norm=part("layer_norm"),
        rotary=None,
        positions=part("learned_positions"),
    )


#: The published size has 1.3 billion parameters and texts of 8,000 tokens; how many layers are full and how wide the
#: window is, is not in the abstract. A quarter of the layers and a window of 1,024 tokens cut attention to a third.
register_family(
    masformer,
    {
        "masformer_1_3b": {
            "dim": 2048,
            "depth": 24,
            "heads": 16,
            "full": full_layers(24, 6),
            "window": 1024,
        },
        "masformer_125m": {
            "dim": 768,
            "depth": 12,
            "heads": 12,
            "full": full_layers(12, 3),
            "window": 256,
            "length": 2048,
        },
    },
    family="masformer",
    task="language-modelling",
)

_QKV = re.compile(r"\.([qkv])_proj\.weight$")


def _fuse(state: State, model: Network) -> State:
    """One matrix of queries, keys and values, the queries scaled to make up for ``1 / sqrt(head_dim)``."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    fused = {}
    for name, tensor in state.items():
        match = _QKV.search(name)
        if match is None:
            fused[name] = tensor
        else:
            parts.setdefault(_QKV.sub(".qkv.weight", name), {})[match[1]] = tensor
    heads = [module for module in model.modules() if hasattr(module, "head_dim")]
    scale = math.sqrt(heads[0].head_dim)  # type: ignore[arg-type]
    fused |= {name: torch.cat([scale * qkv["q"], qkv["k"], qkv["v"]]) for name, qkv in parts.items()}
    return drop_tied_scores(fused, model)


_BLOCK = r"(?:transformer\.)?h\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."

register_layout(
    "masformer",
    Layout(
        name="transformers",
        marker=r"^(transformer\.)?h\.0\.attn\.attention\.q_proj\.weight$",
        renames=(
            (_BLOCK + r"attn\.attention\.(masked_)?bias", None),
            (_BLOCK + r"ln_1\.(.*)", _OURS + r"0.norm.\2"),
            (_BLOCK + r"attn\.attention\.([qkv]_proj\..*)", _OURS + r"0.part.\2"),
            (_BLOCK + r"attn\.attention\.out_proj\.(.*)", _OURS + r"0.part.proj.\2"),
            (_BLOCK + r"ln_2\.(.*)", _OURS + r"1.norm.\2"),
            (_BLOCK + r"mlp\.c_fc\.(.*)", _OURS + r"1.part.fc1.\2"),
            (_BLOCK + r"mlp\.c_proj\.(.*)", _OURS + r"1.part.fc2.\2"),
            (r"(?:transformer\.)?wte\.weight", r"backbone.embed.weight"),
            (r"(?:transformer\.)?wpe\.weight", r"backbone.stages.0.entry.0.table"),
            (r"(?:transformer\.)?ln_f\.(.*)", r"head.norm.\1"),
            (r"lm_head\.weight", r"head.linear.weight"),
        ),
        convert=_fuse,
    ),
)
