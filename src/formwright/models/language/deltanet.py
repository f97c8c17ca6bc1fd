"""DeltaNet: a decoder whose layers write by the delta rule, alone or with some layers of attention.

Source: Parallelizing Linear Transformers with the Delta Rule over Sequence Length, arXiv 2406.06484. Equal to
flash-linear-attention's models, whose checkpoints load; sizes from its configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from formwright.candidates import candidate
from formwright.errors import UserError
from formwright.models import Network, derive, register_family
from formwright.models.checkpoints import Layout, State, drop_tied_scores, register_layout
from formwright.models.language.transformer import DECIDED, SMALL_DECODER, decoder, small_decoder
from formwright.nn.specification import ChainSpec, part
from formwright.shapes import LanguageShape


def gated_width(dim: int) -> int:
    """Hidden width of flash-linear-attention's gated MLPs: 8/3 of ``dim``, up to the next multiple of 256."""
    return 256 * -(-int(dim * 4 * 2 / 3) // 256)


@derive(decoder, family="deltanet", without=DECIDED, tied=False, vocabulary=32000, length=2048)
def deltanet(
    base: Callable[..., ChainSpec],
    *,
    dim: int,
    depth: int,
    heads: int,
    hidden: int | None = None,
    kernel: int = 4,
    gate: bool = False,
    attention_layers: Sequence[int] = (),
    attention_heads: int | None = None,
    window: int | None = None,
    norm_eps: float = 1e-6,
) -> ChainSpec:
    """A DeltaNet; other options are those of :func:`decoder`.

    Args:
        heads: heads of the delta rule.
        hidden: hidden width of the gated MLP; :func:`gated_width` if unset.
        kernel: tokens that the short convolutions see.
        gate: whether the outputs of the delta rule are gated.
        attention_layers: numbers of the blocks that are attention instead, from 0.
        attention_heads: their heads; ``heads`` if unset.
        window: how many tokens they see; all before if unset.
        norm_eps: added to the mean square by all norms.

    Raises:
        UserError: there is no block with a number of ``attention_layers``.
    """
    if any(not 0 <= layer < depth for layer in attention_layers):
        raise UserError(f"Attention in layers {list(attention_layers)} does not fit {depth} layers, 0 to {depth - 1}.")
    delta = part("delta_rule", heads=heads, kernel=kernel, gate=gate, norm_eps=norm_eps)
    attention = part("attention", heads=attention_heads or heads, window=window, bias=False)
    return base(
        mixers=[attention if layer in attention_layers else delta for layer in range(depth)],
        channel_mixer=part("glu", hidden=gated_width(dim) if hidden is None else hidden),
        norm=part("rms_norm", eps=norm_eps),
    )


_LARGE: dict[str, Any] = {"dim": 2048, "depth": 24, "heads": 16}

register_family(
    deltanet,
    {
        "deltanet_340m": {"dim": 1024, "depth": 24, "heads": 8},
        "deltanet_1.3b": _LARGE,
        "deltanet_1.3b_sliding": {**_LARGE, "attention_layers": tuple(range(1, 24, 2)), "window": 2048},
        "deltanet_1.3b_global": {**_LARGE, "attention_layers": (1, 12)},
    },
    family="deltanet",
    task="language-modelling",
)

_BLOCK = r"(?:model\.)?layers\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."


def fla_layout(marker: str, mixer: Mapping[str, str], joined: Mapping[str, Sequence[str]]) -> Layout:
    """The layout of a model of flash-linear-attention: its block is the same around every mixer.

    Args:
        marker: what the name of a mixer's parameter ends on, in every such checkpoint.
        mixer: names of the mixer's modules and what they are called here.
        joined: our matrices that are several of theirs, one above the other, by what those are called here.
    """

    def join(state: State, model: Network) -> State:
        for path in sorted({name.partition(".part.")[0] for name in state if ".part." in name}):
            for target, names in joined.items():
                parts = [state.pop(f"{path}.part.{name}", None) for name in names]
                found = [tensor for tensor in parts if tensor is not None]
                if len(found) == len(names):
                    state[f"{path}.part.{target}"] = torch.cat([tensor.squeeze(1) for tensor in found])
                elif found:
                    raise KeyError(f"one of {', '.join(names)} of {path}")
        return drop_tied_scores(state, model)

    return Layout(
        name="flash-linear-attention",
        marker=rf"^(model\.)?layers\.\d+\.attn\.{marker}$",
        renames=(
            (r".*\.rotary\.inv_freq", None),
            (_BLOCK + r"attn_norm\.(.*)", _OURS + r"0.norm.\2"),
            *((_BLOCK + rf"attn\.{theirs}", _OURS + f"0.part.{ours}") for theirs, ours in mixer.items()),
            (_BLOCK + r"mlp_norm\.(.*)", _OURS + r"1.norm.\2"),
            (_BLOCK + r"mlp\.(gate|up|down)_proj\.(.*)", _OURS + r"1.part.\2.\3"),
            (r"(?:model\.)?embeddings\.weight", r"backbone.embed.weight"),
            (r"(?:model\.)?norm\.weight", r"head.norm.weight"),
            (r"lm_head\.weight", r"head.linear.weight"),
        ),
        convert=join,
    )


#: Both mixers of a hybrid: the delta rule's, and attention's, whose matrices have the same names.
register_layout(
    "deltanet",
    fla_layout(
        r"b_proj\.weight",
        {
            r"([qkv])_(proj|conv1d)\.weight": r"\2_\3",
            r"b_proj\.weight": "beta.weight",
            r"g_proj\.weight": "gate.weight",
            r"o_norm\.weight": "norm_weight",
            r"o_proj\.weight": "proj.weight",
        },
        {"qkv.weight": ("q_proj", "k_proj", "v_proj"), "conv_weight": ("q_conv1d", "k_conv1d", "v_conv1d")},
    ),
)


@candidate("language-modelling", "delta_rule_decoder", order=50, **SMALL_DECODER)
def _for_language(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A plain decoder with the delta rule in every layer."""
    return small_decoder(shape, width, depth, part("delta_rule"), "delta_rule_decoder")
