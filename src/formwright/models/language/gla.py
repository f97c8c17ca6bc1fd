"""The gated linear attention Transformer: a decoder whose layers forget at rates that the tokens set.

Source: Gated Linear Attention Transformers with Hardware-Efficient Training, arXiv 2312.06635. Equal to
flash-linear-attention's models, whose checkpoints load; sizes from its configurations.
"""

from __future__ import annotations

from collections.abc import Callable

from formwright.candidates import candidate
from formwright.models import derive, register_family
from formwright.models.checkpoints import register_layout
from formwright.models.language.deltanet import fla_layout, gated_width
from formwright.models.language.transformer import DECIDED, SMALL_DECODER, decoder, small_decoder
from formwright.nn.specification import ChainSpec, part
from formwright.shapes import LanguageShape


@derive(decoder, family="gla", without=DECIDED, tied=False, vocabulary=32000, length=2048)
def gla(
    base: Callable[..., ChainSpec],
    *,
    dim: int,
    heads: int = 4,
    expand_keys: float = 0.5,
    hidden: int | None = None,
    norm_eps: float = 1e-6,
) -> ChainSpec:
    """A gated linear attention Transformer; other options are those of :func:`decoder`.

    Args:
        heads: heads of the linear attention.
        expand_keys: channels of all keys over ``dim``.
        hidden: hidden width of the gated MLP; 8/3 of ``dim`` up to the next multiple of 256 if unset.
        norm_eps: added to the mean square by all norms.
    """
    return base(
        mixers=part("gated_linear_attention", heads=heads, expand_keys=expand_keys, norm_eps=norm_eps),
        channel_mixer=part("glu", hidden=gated_width(dim) if hidden is None else hidden),
        norm=part("rms_norm", eps=norm_eps),
    )


register_family(
    gla,
    {
        "gla_340m": {"dim": 1024, "depth": 24, "tied": True},
        "gla_1.3b": {"dim": 2048, "depth": 24},
    },
    family="gla",
    task="language-modelling",
)

register_layout(
    "gla",
    fla_layout(
        r"gk_proj\.0\.weight",
        {
            r"([qkvg])_proj\.weight": r"\2_proj",
            r"gk_proj\.0\.(.*)": r"decay_down.\2",
            r"gk_proj\.1\.(.*)": r"decay_up.\2",
            r"g_norm(?:_swish_gate)?\.weight": "norm_weight",
            r"o_proj\.weight": "proj.weight",
        },
        {"qk.weight": ("q_proj", "k_proj"), "value_gate.weight": ("v_proj", "g_proj")},
    ),
)


@candidate("language-modelling", "gated_linear_attention_decoder", order=40, **SMALL_DECODER)
def _for_language(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A plain decoder with gated linear attention in every layer."""
    return small_decoder(shape, width, depth, part("gated_linear_attention"), "gated_linear_attention_decoder")
