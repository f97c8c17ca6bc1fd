"""BART: an encoder-decoder of the first Transformer's blocks, trained to restore texts that were damaged.

Source: BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and
Comprehension, arXiv 1910.13461. Equal to transformers' models of the same names, whose checkpoints load and are
written.
"""

from __future__ import annotations

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, Rename, State, register_layout, stacked
from formwright.models.topologies.encoder_decoder import EncoderDecoderSpec
from formwright.nn.specification import BlockSpec, BranchSpec, DecoderInput, PartSpec, StageSpec, TokenInput, part

#: Ids of padding and of the end of a text in the published vocabulary; a decoder begins with the end.
_PADDING, _END = 1, 2


def bart(
    *,
    name: str = "bart",
    dim: int,
    depth: int,
    heads: int,
    hidden: int | None = None,
    scaled: bool = False,
    dropout: float = 0.0,
    vocabulary: int = 50265,
    length: int = 1024,
    padding: int | None = _PADDING,
    start: int = _END,
    end: int | None = _END,
) -> EncoderDecoderSpec:
    """A BART.

    Args:
        dim: channels of a token.
        depth: blocks of the encoder, and of the decoder.
        heads: attention heads.
        hidden: hidden width of the MLPs; four times ``dim`` if unset.
        scaled: whether embeddings are multiplied by the square root of ``dim``.
        dropout: share of each branch's output values that is dropped in training.
        vocabulary: number of token ids.
        length: the longest text, of the encoder and of the decoder.
        padding: the id that is no token for the encoder.
        start: the id that the decoder begins with.
        end: the id that ends a text.
    """
    norm = part("layer_norm")
    options = {"heads": heads, "qkv_bias": True, "dropout": dropout}
    channel_mixer = part("mlp", hidden=hidden or 4 * dim, dropout=dropout)
    positions = part("learned_positions", norm=norm, offset=2)
    scale = dim**0.5 if scaled else 1.0

    def stack(causal: bool, *more: PartSpec) -> tuple[StageSpec, ...]:
        mixers = (part("attention", causal=causal, **options), *more, channel_mixer)
        block = BlockSpec(tuple(BranchSpec(mixer, post_norm=norm) for mixer in mixers))
        return (StageSpec(dim, (block,) * depth, entry=(positions,)),)

    return EncoderDecoderSpec(
        family="bart",
        name=name,
        task="text-to-text",
        input=TokenInput(vocabulary, length, padding),
        decoder_input=DecoderInput(vocabulary, length),
        classes=vocabulary,
        embed=part("token_embedding", scale=scale),
        encoder=stack(False),
        decoder_embed=part("token_embedding", scale=scale, tied=True),
        decoder=stack(True, part("cross_attention", **options)),
        head=part("token_scores", tied=True, bias=True, learned_bias=False),
        start=start,
        end=end,
    )


register_family(
    bart,
    {
        "bart_base": {"dim": 768, "depth": 6, "heads": 12},
        "bart_large": {"dim": 1024, "depth": 12, "heads": 16},
    },
    family="bart",
    task="text-to-text",
)


def _restore(state: State, model: Network) -> State:
    """The bias of the scores is a row there."""
    return {**state, "head.bias": state["head.bias"][None]}


def _copies(model: Network) -> dict[str, str]:
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return dict.fromkeys(names, "model.shared.weight")


_BLOCK = r"model\.(encoder|decoder)\.layers\.(\d+)\."
_CROSS = r"model\.(decoder)\.layers\.(\d+)\.encoder_attn"
_OURS = r"\1.stages.0.blocks.\2.branches."


def _mlp(side: str, branch: int) -> tuple[Rename, ...]:
    theirs, ours = rf"model\.{side}\.layers\.(\d+)\.", rf"{side}.stages.0.blocks.\1.branches.{branch}."
    return (
        (theirs + r"(fc1|fc2)\.(weight|bias)", ours + r"part.\2.\3"),
        (theirs + r"final_layer_norm\.(weight|bias)", ours + r"post_norm.\2"),
    )


register_layout(
    "bart",
    Layout(
        name="transformers",
        marker=r"^model\.encoder\.layers\.0\.self_attn\.q_proj\.weight$",
        renames=(
            (r"model\.shared\.weight", "encoder.embed.weight"),
            (r"model\.(encoder|decoder)\.embed_positions\.weight", r"\1.stages.0.entry.0.table"),
            (r"model\.(encoder|decoder)\.layernorm_embedding\.(weight|bias)", r"\1.stages.0.entry.0.norm.\2"),
            *stacked(_BLOCK + r"self_attn\.{}_proj\.(weight|bias)", "qkv", _OURS + r"0.part.qkv.\3"),
            (_BLOCK + r"self_attn\.out_proj\.(weight|bias)", _OURS + r"0.part.proj.\3"),
            (_BLOCK + r"self_attn_layer_norm\.(weight|bias)", _OURS + r"0.post_norm.\3"),
            (_CROSS + r"\.q_proj\.(weight|bias)", _OURS + r"1.part.q.\3"),
            *stacked(_CROSS + r"\.{}_proj\.(weight|bias)", "kv", _OURS + r"1.part.kv.\3"),
            (_CROSS + r"\.out_proj\.(weight|bias)", _OURS + r"1.part.proj.\3"),
            (_CROSS + r"_layer_norm\.(weight|bias)", _OURS + r"1.post_norm.\3"),
            *_mlp("encoder", 1),
            *_mlp("decoder", 2),
            (r"final_logits_bias", "head.bias"),
        ),
        restore=_restore,
        copies=_copies,
    ),
)
