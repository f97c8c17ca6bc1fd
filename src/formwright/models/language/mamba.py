"""Mamba: a language model without attention and without MLPs, one selective state-space layer a block.

Source: Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv 2312.00752. Equal to transformers'
models of the same names; the authors' checkpoints load as well.
"""

from __future__ import annotations

import torch

from formwright.candidates import candidate
from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, drop_tied_scores, register_layout
from formwright.models.language.transformer import SMALL_DECODER, small_decoder
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, TokenInput, part
from formwright.shapes import LanguageShape


def mamba(
    *,
    name: str = "mamba",
    dim: int,
    depth: int,
    states: int = 16,
    expand: float = 2.0,
    kernel: int = 4,
    selective: bool = True,
    rank: int | None = None,
    norm_eps: float = 1e-5,
    tied: bool = True,
    vocabulary: int = 50280,
    length: int = 2048,
    padding: int | None = None,
) -> ChainSpec:
    """A Mamba.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        states: states of each channel.
        expand: channels of the state-space layer over ``dim``.
        kernel: tokens that its convolution sees.
        selective: whether the layer chooses by the token what it remembers; without, it is linear and time-invariant.
        rank: channels from which the step sizes are computed; a sixteenth of ``dim``, rounded up, if unset.
        norm_eps: added to the mean square by all norms.
        tied: whether the scores use the weight of the token embedding.
        vocabulary: number of token ids.
        length: the sequences that it is trained with; it takes any.
        padding: the id that is no token.
    """
    mixer = part("mamba", states=states, expand=expand, kernel=kernel, selective=selective, depth=depth)
    return sublayer_model(
        "mamba",
        name,
        dim,
        [mixer if rank is None else mixer.with_options(rank=rank)] * depth,
        norm_eps=norm_eps,
        tied=tied,
        vocabulary=vocabulary,
        length=length,
        padding=padding,
    )


def sublayer_model(
    family: str,
    name: str,
    dim: int,
    sublayers: list[PartSpec],
    *,
    tied: bool,
    vocabulary: int,
    length: int,
    padding: int | None,
    norm_eps: float = 1e-5,
) -> ChainSpec:
    """A language model each of whose blocks is one part after a norm."""
    norm = part("rms_norm", eps=norm_eps)
    return ChainSpec(
        family=family,
        name=name,
        task="language-modelling",
        input=TokenInput(vocabulary, length, padding),
        classes=vocabulary,
        embed=part("token_embedding"),
        stages=(StageSpec(dim, tuple(BlockSpec((BranchSpec(each, norm),)) for each in sublayers)),),
        head=part("token_scores", norm=norm, tied=tied),
    )


register_family(
    mamba,
    {
        "mamba_130m": {"dim": 768, "depth": 24},
        "mamba_370m": {"dim": 1024, "depth": 48},
        "mamba_790m": {"dim": 1536, "depth": 48},
        "mamba_1.4b": {"dim": 2048, "depth": 48},
        "mamba_2.8b": {"dim": 2560, "depth": 64},
    },
    family="mamba",
    task="language-modelling",
)


def _fit(state: State, model: Network) -> State:
    """Queries, keys and values become one matrix, and a tied head has no weight of its own."""
    for name in [name for name in state if name.endswith(".q_proj.weight")]:
        path = name.removesuffix("q_proj.weight")
        state[f"{path}qkv.weight"] = torch.cat([state.pop(f"{path}{each}_proj.weight") for each in "qkv"])
    return drop_tied_scores(state, model)


_TRUNK = r"(?:backbone\.|model\.)?"
_LAYER = _TRUNK + r"layers\.(\d+)\."
_MIXER = _LAYER + r"mixer\."
_PART = r"backbone.stages.0.blocks.\1.branches.0.part."


def register_layouts(family: str) -> None:
    """The two sets of names under which models of this kind are published: they differ in that of the embedding."""
    for owner, embedding in (("transformers", "embeddings"), ("mamba_ssm", "embedding")):
        layout = Layout(
            name=owner,
            marker=rf"^{_TRUNK}{embedding}\.weight$",
            renames=(
                (rf"{_TRUNK}{embedding}\.weight", r"backbone.embed.weight"),
                (_LAYER + r"norm\.weight", r"backbone.stages.0.blocks.\1.branches.0.norm.weight"),
                (_MIXER + r"conv1d\.(.*)", _PART + r"conv.\2"),
                (_MIXER + r"norm\.weight", _PART + r"norm_weight"),
                (_MIXER + r"o_proj\.weight", _PART + r"proj.weight"),
                (_MIXER + r"up_proj\.weight", _PART + r"fc1.weight"),
                (_MIXER + r"down_proj\.weight", _PART + r"fc2.weight"),
                (_MIXER + r"(.*)", _PART + r"\2"),
                (_TRUNK + r"norm_f\.weight", r"head.norm.weight"),
                (r"lm_head\.weight", r"head.linear.weight"),
            ),
            convert=_fit,
        )
        register_layout(family, layout)


register_layouts("mamba")


@candidate("language-modelling", "mamba_decoder", order=70, **SMALL_DECODER)
def _for_language(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A plain decoder with Mamba in every layer."""
    return small_decoder(shape, width, depth, part("mamba"), "mamba_decoder")
