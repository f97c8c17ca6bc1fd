"""T5: an encoder-decoder whose attention knows places by their distance alone, and in which every task is text to text.

Source: Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, arXiv 1910.10683; version 1.1
has gated MLPs (GLU Variants Improve Transformer, arXiv 2002.05202) and scores with a matrix of their own. Equal to
transformers' models of the same names, whose checkpoints load and are written.
"""

from __future__ import annotations

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout, stacked
from formwright.models.topologies.encoder_decoder import EncoderDecoderSpec
from formwright.nn.specification import BlockSpec, BranchSpec, DecoderInput, PartSpec, StageSpec, TokenInput, part

#: Ids of padding and of the end of a text in the published vocabulary; a decoder begins with padding.
_PADDING, _END = 0, 1


def t5(
    *,
    name: str = "t5",
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    head_dim: int = 64,
    gated: bool = False,
    tied: bool = True,
    buckets: int = 32,
    reach: int = 128,
    dropout: float = 0.0,
    vocabulary: int = 32128,
    length: int = 512,
    padding: int | None = _PADDING,
    start: int = _PADDING,
    end: int | None = _END,
) -> EncoderDecoderSpec:
    """A T5.

    Args:
        dim: channels of a token.
        depth: blocks of the encoder, and of the decoder.
        heads: attention heads.
        hidden: hidden width of the MLPs.
        head_dim: channels of a head.
        gated: GELU-gated MLPs, as in version 1.1; ReLU ones if false.
        tied: whether the scores use the weight of the token embedding; version 1.1 has another one.
        buckets: rows of the table of position biases.
        reach: distance from which on all tokens have the same bias.
        dropout: share of each branch's output values, and of attention weights, that are dropped in training.
        vocabulary: number of token ids.
        length: tokens of a text as an example has them; any number can come.
        padding: the id that is no token for the encoder.
        start: the id that the decoder begins with.
        end: the id that ends a text.
    """
    norm = part("rms_norm")
    options = {"heads": heads, "head_dim": head_dim, "scale": 1.0, "dropout": dropout, "attention_dropout": dropout}
    mlp = {"hidden": hidden, "dropout": dropout}
    channel_mixer = (
        part("glu", activation="gelu_tanh", **mlp) if gated else part("mlp", activation="relu", bias=False, **mlp)
    )

    def stack(causal: bool, *more: PartSpec) -> tuple[StageSpec, ...]:
        mixers = (part("biased_attention", causal=causal, **options), *more, channel_mixer)
        block = BlockSpec(tuple(BranchSpec(mixer, norm) for mixer in mixers))
        bias = part("bucketed_position_bias", heads=heads, buckets=buckets, reach=reach, causal=causal)
        return (StageSpec(dim, (block,) * depth, entry=(bias,)),)

    return EncoderDecoderSpec(
        family="t5",
        name=name,
        task="text-to-text",
        input=TokenInput(vocabulary, length, padding),
        decoder_input=DecoderInput(vocabulary, length),
        classes=vocabulary,
        embed=part("token_embedding", std=1.0),
        encoder=stack(False),
        encoder_norm=norm,
        decoder_embed=part("token_embedding", tied=True),
        decoder=stack(True, part("cross_attention", bias=False, **options)),
        head=part("token_scores", norm=norm, tied=tied, scale=dim**-0.5 if tied else 1.0),
        start=start,
        end=end,
    )


_V1_1 = {"gated": True, "tied": False}

register_family(
    t5,
    {
        "t5_small": {"dim": 512, "depth": 6, "heads": 8, "hidden": 2048},
        "t5_base": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072},
        "t5_large": {"dim": 1024, "depth": 24, "heads": 16, "hidden": 4096},
        "t5_3b": {"dim": 1024, "depth": 24, "heads": 32, "hidden": 16384, "head_dim": 128},
        "t5_11b": {"dim": 1024, "depth": 24, "heads": 128, "hidden": 65536, "head_dim": 128},
        "t5_v1_1_small": {**_V1_1, "dim": 512, "depth": 8, "heads": 6, "hidden": 1024},
        "t5_v1_1_base": {**_V1_1, "dim": 768, "depth": 12, "heads": 12, "hidden": 2048},
        "t5_v1_1_large": {**_V1_1, "dim": 1024, "depth": 24, "heads": 16, "hidden": 2816},
        "t5_v1_1_xl": {**_V1_1, "dim": 2048, "depth": 24, "heads": 32, "hidden": 5120},
        "t5_v1_1_xxl": {**_V1_1, "dim": 4096, "depth": 24, "heads": 64, "hidden": 10240},
    },
    family="t5",
    task="text-to-text",
)


def _last_layer(model: Network) -> str:
    """Our name of what transformers calls ``wo`` in both kinds of MLP."""
    gated = model.specification.encoder[0].blocks[0].branches[-1].part.name == "glu"
    return ".down." if gated else ".fc2."


def _convert(state: State, model: Network) -> State:
    """Name the last layer of the MLPs; the table's columns are read as they come."""
    state = {name.replace(".wo.", _last_layer(model)): tensor for name, tensor in state.items()}
    return {**state, **{name: heads for name, heads in model.state_dict().items() if name.endswith("bias_heads")}}


def _restore(state: State, model: Network) -> State:
    state = {name.replace(_last_layer(model), ".wo."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if not name.endswith("bias_heads")}


def _copies(model: Network) -> dict[str, str]:
    copies = {f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")}
    return {**copies, "lm_head.weight": "shared.weight"} if model.specification.head.options["tied"] else copies


_BLOCK = r"(encoder|decoder)\.block\.(\d+)\.layer\."
_OURS = r"\1.stages.0.blocks.\2.branches."

register_layout(
    "t5",
    Layout(
        name="transformers",
        marker=r"^encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight$",
        renames=(
            (r"shared\.weight", "encoder.embed.weight"),
            (
                r"(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.weight",
                r"\1.stages.0.entry.0.table",
            ),
            (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight", None),
            *stacked(_BLOCK + r"0\.SelfAttention\.{}\.weight", "qkv", _OURS + "0.part.qkv.weight"),
            (_BLOCK + r"0\.SelfAttention\.o\.weight", _OURS + "0.part.proj.weight"),
            (_BLOCK + r"1\.EncDecAttention\.q\.weight", _OURS + "1.part.q.weight"),
            *stacked(_BLOCK + r"1\.EncDecAttention\.{}\.weight", "kv", _OURS + "1.part.kv.weight"),
            (_BLOCK + r"1\.EncDecAttention\.o\.weight", _OURS + "1.part.proj.weight"),
            (_BLOCK + r"(\d)\.layer_norm\.weight", _OURS + r"\3.norm.weight"),
            (_BLOCK + r"(\d)\.DenseReluDense\.wi\.weight", _OURS + r"\3.part.fc1.weight"),
            (_BLOCK + r"(\d)\.DenseReluDense\.wi_0\.weight", _OURS + r"\3.part.gate.weight"),
            (_BLOCK + r"(\d)\.DenseReluDense\.wi_1\.weight", _OURS + r"\3.part.up.weight"),
            (_BLOCK + r"(\d)\.DenseReluDense\.wo\.weight", _OURS + r"\3.part.wo.weight"),
            (r"encoder\.final_layer_norm\.weight", "encoder_norm.weight"),
            (r"decoder\.final_layer_norm\.weight", "head.norm.weight"),
            (r"lm_head\.weight", "head.linear.weight"),
        ),
        convert=_convert,
        restore=_restore,
        copies=_copies,
    ),
)
