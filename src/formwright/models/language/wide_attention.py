"""Wide attention: few layers with many heads instead of many layers with few.

The width of a head stays as it is, so that a layer with more heads has wider queries, keys and values, and the layers
that are saved take their MLPs with them. Attention has as many parameters in every shape.

Source: Wide Attention Is The Way Forward For Transformers?, arXiv 2210.00640.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from formwright.errors import UserError
from formwright.models import derive, register_family
from formwright.models.language.transformer import DECIDED, Mixer, encoder
from formwright.nn.parts import PARTS
from formwright.nn.specification import ChainSpec, PartSpec, part


def aspect_ratios(layers: int, heads: int) -> list[tuple[int, int]]:
    """All ``(layers, heads a layer)`` with as many heads in total, the deepest first, none deeper than given."""
    return [(depth, layers * heads // depth) for depth in range(layers, 0, -1) if layers * heads % depth == 0]


@derive(encoder, family="wide_attention", without=(*DECIDED, "pool"), dim=512, dropout=0.0, length=1000)
def wide_attention(
    base: Callable[..., ChainSpec],
    *,
    depth: int,
    heads: int,
    head_dim: int = 64,
    hidden: int = 2048,
    mixer: Mixer = "attention",
    total_heads: int | None = None,
) -> ChainSpec:
    """An encoder whose heads have a width of their own; other options are those of :func:`encoder`.

    Args:
        heads: heads of a block.
        head_dim: channels of a head, whatever the number of heads.
        hidden: hidden width of each MLP.
        mixer: the attention; one with an option ``head_dim``.
        total_heads: checked to be ``depth * heads``, if given.

    Raises:
        UserError: another total of heads was asked for, or the mixer ties the width of its heads to their number.
    """
    if total_heads is not None and depth * heads != total_heads:
        pairs = ", ".join(f"{layers} x {each}" for layers, each in aspect_ratios(total_heads, 1))
        raise UserError(f"{depth} layers of {heads} heads are not {total_heads} heads; these are: {pairs}.")
    mixer = part(mixer) if isinstance(mixer, str) else mixer
    if "head_dim" not in inspect.signature(PARTS[mixer.name]).parameters:
        raise UserError(
            f"The mixer {mixer.name!r} has heads of dim / heads channels, so more heads would not make it wider; "
            "choose one with an option head_dim."
        )
    return base(
        mixers=PartSpec(mixer.name, {"head_dim": head_dim, **mixer.options}), channel_mixer=part("mlp", hidden=hidden)
    )


register_family(
    wide_attention,
    {f"wide_attention_{depth}x{heads}": {"depth": depth, "heads": heads} for depth, heads in aspect_ratios(6, 8)},
    family="wide_attention",
    task="text-classification",
)
