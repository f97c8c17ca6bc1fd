"""Transformer-XL: a decoder whose attention works by distance and remembers the segments before.

Source: Transformer-XL, arXiv 1901.02860. Equal to the authors' code.
"""

from __future__ import annotations

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.language.transformer import transformer_blocks
from formwright.nn.specification import ChainSpec, StageSpec, TokenInput, part


def transformer_xl(
    *,
    name: str = "transformer_xl",
    dim: int,
    depth: int,
    heads: int,
    head_dim: int,
    hidden: int,
    window: int,
    vocabulary: int,
    length: int = 512,
    padding: int | None = None,
) -> ChainSpec:
    """A Transformer-XL with one embedding for all tokens, as for characters.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        head_dim: channels of a head.
        hidden: hidden width of the MLP.
        window: how many latest tokens a token sees in each layer.
    """
    attention = part("relative_attention", heads=heads, head_dim=head_dim, window=window)
    blocks = transformer_blocks(
        [attention] * depth, part("mlp", hidden=hidden, activation="relu"), part("layer_norm"), post_norm=True
    )
    return ChainSpec(
        family="transformer_xl",
        name=name,
        task="language-modelling",
        input=TokenInput(vocabulary, length, padding),
        classes=vocabulary,
        embed=part("token_embedding", scale=dim**0.5),
        stages=(StageSpec(dim, blocks),),
        head=part("token_scores", bias=True, tied=True),
    )


_ENWIK8 = {"vocabulary": 204, "heads": 8}

register_family(
    transformer_xl,
    {
        "transformer_xl_enwik8_12": {
            **_ENWIK8,
            "dim": 512,
            "depth": 12,
            "head_dim": 64,
            "hidden": 2048,
            "window": 512,
            "length": 512,
        },
        "transformer_xl_enwik8_24": {
            **_ENWIK8,
            "dim": 1024,
            "depth": 24,
            "head_dim": 128,
            "hidden": 3072,
            "window": 768,
            "length": 768,
        },
    },
    family="transformer_xl",
    task="language-modelling",
)


def _biases(state: State, model: Network) -> State:
    """The two biases of attention are shared by all layers in the authors' code, unless they are untied."""
    shared = {name: state.pop(name) for name in ("r_w_bias", "r_r_bias") if name in state}
    for block in range(len(model.specification.stages[0].blocks)):
        own = f"backbone.stages.0.blocks.{block}.branches.0.part."
        for theirs, ours in (("r_w_bias", "content_bias"), ("r_r_bias", "distance_bias")):
            if theirs in shared:
                state[own + ours] = shared[theirs].clone()
    return state


_BLOCK = r"layers\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."

register_layout(
    "transformer_xl",
    Layout(
        name="kimiyoung/transformer-xl",
        marker=r"^layers\.0\.dec_attn\.qkv_net\.weight$",
        renames=(
            (r"pos_emb\.inv_freq", None),
            (_BLOCK + r"dec_attn\.qkv_net\.weight", _OURS + "0.part.qkv.weight"),
            (_BLOCK + r"dec_attn\.r_net\.weight", _OURS + "0.part.distance.weight"),
            (_BLOCK + r"dec_attn\.o_net\.weight", _OURS + "0.part.proj.weight"),
            (_BLOCK + r"dec_attn\.r_w_bias", _OURS + "0.part.content_bias"),
            (_BLOCK + r"dec_attn\.r_r_bias", _OURS + "0.part.distance_bias"),
            (_BLOCK + r"dec_attn\.layer_norm\.(.*)", _OURS + r"0.post_norm.\2"),
            (_BLOCK + r"pos_ff\.CoreNet\.0\.(.*)", _OURS + r"1.part.fc1.\2"),
            (_BLOCK + r"pos_ff\.CoreNet\.3\.(.*)", _OURS + r"1.part.fc2.\2"),
            (_BLOCK + r"pos_ff\.layer_norm\.(.*)", _OURS + r"1.post_norm.\2"),
            (r"word_emb\.emb_layers\.0\.weight", "backbone.embed.weight"),
            (r"crit\.out_layers\.0\.weight", None),
            (r"crit\.out_layers\.0\.bias", "head.bias"),
        ),
        convert=_biases,
    ),
)
