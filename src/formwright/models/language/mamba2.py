"""Mamba-2, and its hybrids with a few layers of attention and many MLPs.

Sources: Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality,
arXiv 2405.21060 (equal to transformers' models of the same names; the authors' checkpoints load as well); An Empirical
Study of Mamba-based Language Models, arXiv 2406.07887 (equal to transformers' Nemotron-H of such layers).
"""

from __future__ import annotations

from formwright.candidates import candidate
from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.language.mamba import register_layouts, sublayer_model
from formwright.models.language.transformer import SMALL_DECODER, small_decoder
from formwright.nn.specification import ChainSpec, part
from formwright.shapes import LanguageShape

#: The letters by which the authors of the hybrid write a stack of sub-layers.
MAMBA, ATTENTION, MLP = "M*-"


def mamba2(
    *,
    name: str = "mamba2",
    dim: int,
    depth: int,
    states: int = 128,
    head_dim: int = 64,
    groups: int = 1,
    expand: float = 2.0,
    kernel: int = 4,
    tied: bool = True,
    vocabulary: int = 50288,
    length: int = 2048,
    padding: int | None = None,
) -> ChainSpec:
    """A Mamba-2.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        states: states of each channel.
        head_dim: channels of a head.
        groups: how many ``B`` and ``C`` the heads of a layer share.
        expand: channels of the state-space layer over ``dim``.
        kernel: tokens that its convolution sees.
        tied: whether the scores use the weight of the token embedding.
        vocabulary: number of token ids.
        length: the sequences that it is trained with; it takes any.
        padding: the id that is no token.
    """
    mixer = part("mamba2", states=states, head_dim=head_dim, groups=groups, expand=expand, kernel=kernel, depth=depth)
    return sublayer_model(
        "mamba2", name, dim, [mixer] * depth, tied=tied, vocabulary=vocabulary, length=length, padding=padding
    )


def mamba2_hybrid(
    *,
    name: str = "mamba2_hybrid",
    dim: int,
    depth: int,
    heads: int,
    kv_heads: int = 8,
    attention_ratio: float = 0.08,
    mlp_ratio: float = 0.5,
    pattern: str | None = None,
    states: int = 128,
    head_dim: int = 64,
    groups: int = 8,
    vocabulary: int = 256000,
    length: int = 4096,
    padding: int | None = None,
) -> ChainSpec:
    """A stack of Mamba-2 layers, attention without positions, and MLPs, each after a norm of its own.

    Args:
        dim: channels of a token.
        depth: number of sub-layers.
        heads: attention heads.
        kv_heads: heads of keys and values.
        attention_ratio: share of the sub-layers that are attention.
        mlp_ratio: share of the sub-layers that are MLPs.
        pattern: the sub-layers by their letters (``M``, ``*``, ``-``), instead of :func:`allocate_layers`.
        states: states of each channel of a Mamba-2 layer.
        head_dim: channels of its heads.
        groups: how many ``B`` and ``C`` its heads share.
        vocabulary: number of token ids.
        length: the sequences that it is trained with; it takes any.
        padding: the id that is no token.
    """
    letters = allocate_layers(depth, attention_ratio, mlp_ratio, pattern)
    sublayers = {
        MAMBA: part("mamba2", states=states, head_dim=head_dim, groups=groups, depth=depth),
        ATTENTION: part("attention", heads=heads, kv_heads=kv_heads, causal=True, bias=False),
        MLP: part("mlp", bias=False),
    }
    return sublayer_model(
        "mamba2_hybrid",
        name,
        dim,
        [sublayers[letter] for letter in letters],
        tied=False,
        vocabulary=vocabulary,
        length=length,
        padding=padding,
    )


def allocate_layers(depth: int, attention_ratio: float, mlp_ratio: float, pattern: str | None = None) -> str:
    """Where attention and MLPs lie among ``depth`` sub-layers, a letter each; the rest is Mamba-2.

    Attention layers are spread evenly with Mamba-2 before and after them, then MLPs over what Mamba-2 was left.

    Args:
        depth: number of sub-layers.
        attention_ratio: share of attention.
        mlp_ratio: share of MLPs.
        pattern: a stack of the caller's own, which must have these shares.

    Raises:
        UserError: the shares leave no room, or the pattern has another length, other letters or other shares.

    Source: the authors' code, NVIDIA/Megatron-LM.
    """
    attention, mlps = round(depth * attention_ratio), round(depth * mlp_ratio)
    if depth < 1 or attention < 0 or mlps < 0 or attention + mlps > depth:
        raise UserError(
            f"{depth} sub-layers cannot hold {attention} of attention and {mlps} MLPs; choose ratios from 0 to 1 whose "
            "sum is at most 1."
        )
    letters = _spread(MAMBA * depth, ATTENTION, attention, (depth - attention) / (attention + 1))
    if mlps:
        letters = _spread(letters, MLP, mlps, (depth - attention - mlps) / mlps)
    if pattern is None:
        return letters
    unknown = set(pattern) - set(letters + MAMBA + ATTENTION + MLP)
    counts = {letter: (letters.count(letter), pattern.count(letter)) for letter in (MAMBA, ATTENTION, MLP)}
    if unknown or any(wanted != given for wanted, given in counts.values()):
        wanted = ", ".join(f"{count} of {letter!r}" for letter, (count, _) in counts.items())
        raise UserError(f"The pattern {pattern!r} does not have {wanted}; change it, or the depth and the ratios.")
    return pattern


def _spread(letters: str, letter: str, count: int, section: float) -> str:
    """Replace ``count`` of the Mamba-2 layers, each after a section of others."""
    spread, left = list(letters), section
    for index, own in enumerate(letters):
        if own != MAMBA:
            continue
        if left < 0.5 and count:
            spread[index], count, left = letter, count - 1, left + section
        else:
            left -= 1
    return "".join(spread)


register_family(
    mamba2,
    {
        "mamba2_130m": {"dim": 768, "depth": 24},
        "mamba2_370m": {"dim": 1024, "depth": 48},
        "mamba2_780m": {"dim": 1536, "depth": 48},
        "mamba2_1.3b": {"dim": 2048, "depth": 48},
        "mamba2_2.7b": {"dim": 2560, "depth": 64},
        "mamba2_8b": {"dim": 4096, "depth": 56, "groups": 8, "tied": False, "vocabulary": 256000, "length": 4096},
    },
    family="mamba2",
    task="language-modelling",
)
register_family(
    mamba2_hybrid,
    {
        "mamba2_hybrid_800m": {"dim": 1024, "depth": 48, "heads": 16},
        "mamba2_hybrid_8b": {"dim": 4096, "depth": 56, "heads": 32},
    },
    family="mamba2_hybrid",
    task="language-modelling",
)
for _family in ("mamba2", "mamba2_hybrid"):
    register_layouts(_family)


@candidate("language-modelling", "mamba2_decoder", order=60, **SMALL_DECODER)
def _for_language(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A plain decoder with Mamba-2 in every layer."""
    return small_decoder(shape, width, depth, part("mamba2", states=32, head_dim=32), "mamba2_decoder")
