"""Decoders and encoders with any mixer in any layer: what the other families of this folder are made with.

The parts of each layer are data. ``mixers=("delta_rule", "delta_rule", "delta_rule", "attention")`` with
``depth=8`` is a decoder with attention in layers 4 and 8 and the delta rule elsewhere.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from formwright.candidates import candidate
from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.vision.common import drop_path_rates
from formwright.nn.parts import PARTS, Promises
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, TokenInput, part
from formwright.shapes import LanguageShape, TextShape

#: The bytes, and one id each for the end of a text and for padding.
BYTES_VOCABULARY = 258
BYTES_PADDING = 257

Mixer = str | PartSpec


def layer_mixers(mixers: Mixer | Sequence[Mixer], depth: int, *, causal: bool, **defaults: Any) -> list[PartSpec]:
    """The token mixer of each of ``depth`` layers.

    Args:
        mixers: a part, or several that repeat until there is one for every layer.
        depth: number of layers.
        causal: whether tokens may see only those before them.
        defaults: options for the mixers that have them and do not set them, such as ``heads``.

    Raises:
        UserError: there is no mixer or no layer, or one that needs later tokens is asked not to see them.
    """
    pattern = [mixers] if isinstance(mixers, str | PartSpec) else list(mixers)
    if not pattern or depth < 1:
        raise UserError(f"A model needs a mixer and a layer, got {len(pattern)} mixers and depth {depth}.")
    filled = [
        _with_defaults(part(mixer) if isinstance(mixer, str) else mixer, {**defaults, "causal": causal})
        for mixer in pattern
    ]
    if causal:
        for mixer in filled:
            _check_causal(mixer)
    return [filled[layer % len(filled)] for layer in range(depth)]


def _with_defaults(mixer: PartSpec, defaults: Mapping[str, Any]) -> PartSpec:
    accepted = inspect.signature(PARTS[mixer.name]).parameters
    return mixer.with_options(
        **{key: value for key, value in defaults.items() if key in accepted and key not in mixer.options}
    )


def _check_causal(mixer: PartSpec) -> None:
    """Parts that can be both say so by an option; the others promise it or cannot."""
    promises: Promises = PARTS[mixer.name].promises  # type: ignore[attr-defined]
    if not mixer.options.get("causal", promises.causal or promises.per_token):
        raise UserError(
            f"The mixer {mixer.name!r} looks at later tokens, which a model that writes text must not: "
            "choose a causal one, or an encoder."
        )


def transformer_blocks(
    mixers: Sequence[PartSpec],
    channel_mixer: PartSpec,
    norm: PartSpec,
    *,
    post_norm: bool = False,
    drop_path: float = 0.0,
) -> tuple[BlockSpec, ...]:
    """A block for each mixer: mixer and channel mixer, each with its norm before it (or after the sum)."""
    before, after = (None, norm) if post_norm else (norm, None)
    rates = drop_path_rates(drop_path, [len(mixers)])[0]
    return tuple(
        BlockSpec(
            tuple(BranchSpec(each, before, after, drop_path=rate) for each in (mixer, channel_mixer)),
        )
        for mixer, rate in zip(mixers, rates, strict=True)
    )


def with_channel_mixer(specification: ChainSpec, channel_mixer: PartSpec) -> ChainSpec:
    """The model with another part in the last branch of every block."""

    def change(block: BlockSpec) -> BlockSpec:
        *others, last = block.branches
        return BlockSpec((*others, dataclasses.replace(last, part=channel_mixer)))

    stages = [
        dataclasses.replace(stage, blocks=tuple(change(block) for block in stage.blocks))
        for stage in specification.stages
    ]
    return dataclasses.replace(specification, stages=tuple(stages))


#: Options that families which are derived from a decoder or an encoder decide themselves, but for those that they name.
DECIDED = ("mixers", "channel_mixer", "norm", "rotary", "positions", "dropout", "drop_path")


def without_score_bias(specification: ChainSpec) -> ChainSpec:
    """The model, if it is a classifier, with scores without bias, as transformers' models have them."""
    if specification.head.name != "classifier":
        return specification
    return dataclasses.replace(specification, head=specification.head.with_options(bias=False))


def decoder(
    *,
    name: str = "decoder",
    dim: int,
    depth: int,
    heads: int,
    mixers: Mixer | Sequence[Mixer] = "attention",
    channel_mixer: PartSpec = part("glu"),  # noqa: B008
    norm: PartSpec = part("rms_norm"),  # noqa: B008
    rotary: Mapping[str, Any] | None = {},
    positions: PartSpec | None = None,
    tied: bool = True,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    vocabulary: int = BYTES_VOCABULARY,
    length: int = 1024,
    padding: int | None = None,
    classes: int | None = None,
) -> ChainSpec:
    """A language model that predicts each next token, or a classifier of texts made of one.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: heads of the mixers that have them.
        mixers: the token mixer, or several that repeat over the layers.
        channel_mixer: the other branch of every block.
        norm: before each branch and before the scores.
        rotary: options of rotary positions for the mixers that take them; none if null.
        positions: a part that adds positions to the first tokens, such as ``learned_positions``.
        tied: whether the scores use the weight of the token embedding.
        dropout: share of each branch's output values dropped in training, where the parts have it.
        drop_path: rate of stochastic depth in the last block.
        vocabulary: number of token ids.
        length: the sequences that position tables are made for.
        padding: the id that is no token.
        classes: number of classes of texts; predicts tokens if unset.
    """
    options = {"heads": heads, "rotary": rotary, "dropout": dropout}
    blocks = transformer_blocks(
        layer_mixers(mixers, depth, causal=True, **options),
        _with_defaults(channel_mixer, {"dropout": dropout}),
        norm,
        drop_path=drop_path,
    )
    return ChainSpec(
        family="decoder",
        name=name,
        task="language-modelling" if classes is None else "text-classification",
        input=TokenInput(vocabulary, length, padding),
        classes=vocabulary if classes is None else classes,
        embed=part("token_embedding"),
        stages=(StageSpec(dim, blocks, entry=() if positions is None else (positions,)),),
        head=part("token_scores", norm=norm, tied=tied)
        if classes is None
        else part("classifier", norm=norm, pool=part("last_token_pool")),
    )


def encoder(
    *,
    name: str = "encoder",
    dim: int,
    depth: int,
    heads: int,
    mixers: Mixer | Sequence[Mixer] = "attention",
    channel_mixer: PartSpec = part("mlp"),  # noqa: B008
    norm: PartSpec = part("layer_norm"),  # noqa: B008
    rotary: Mapping[str, Any] | None = None,
    positions: PartSpec | None = part("learned_positions"),  # noqa: B008
    dropout: float = 0.0,
    drop_path: float = 0.0,
    vocabulary: int = BYTES_VOCABULARY,
    length: int = 1024,
    padding: int | None = BYTES_PADDING,
    classes: int = 2,
    pool: PartSpec = part("mean_pool"),  # noqa: B008
) -> ChainSpec:
    """A classifier of texts whose tokens all see each other; arguments as those of :func:`decoder`.

    Args:
        pool: how tokens become one vector.
    """
    options = {"heads": heads, "rotary": rotary, "dropout": dropout}
    blocks = transformer_blocks(
        layer_mixers(mixers, depth, causal=False, **options),
        _with_defaults(channel_mixer, {"dropout": dropout}),
        norm,
        drop_path=drop_path,
    )
    return ChainSpec(
        family="encoder",
        name=name,
        task="text-classification",
        input=TokenInput(vocabulary, length, padding),
        classes=classes,
        embed=part("token_embedding"),
        stages=(StageSpec(dim, blocks, entry=() if positions is None else (positions,)),),
        head=part("classifier", norm=norm, pool=pool),
    )


_SIZES = {
    "tiny": {"dim": 128, "depth": 4, "heads": 4},
    "small": {"dim": 256, "depth": 6, "heads": 8},
    "base": {"dim": 512, "depth": 8, "heads": 8},
}

register_family(
    decoder,
    {f"decoder_{size}": options for size, options in _SIZES.items()},
    family="decoder",
    task="language-modelling",
)
register_family(
    encoder,
    {f"encoder_{size}": options for size, options in _SIZES.items()},
    family="encoder",
    task="text-classification",
)


#: How small encoders and decoders are trained.
ENCODER_RECIPE: Mapping[str, Any] = {
    "learning_rate": 0.01,
    "vector_learning_rate": 2e-3,
    "weight_decay": 0.05,
    "ema_decay": 0.99,
}
DECODER_RECIPE: Mapping[str, Any] = {
    "learning_rate": 0.02,
    "vector_learning_rate": 3e-3,
    "weight_decay": 0.05,
    "ema_decay": 0.99,
    "label_smoothing": 0.0,
}
#: How small decoders are proposed: of four blocks, and of two where they are narrow.
SMALL_DECODER: Mapping[str, Any] = {"recipe": DECODER_RECIPE, "first": {"depth": 4}, "narrow": 64}


@candidate(
    "text-classification", "encoder", order=20, recipe=ENCODER_RECIPE, first={"depth": 1}, plain="plain Transformer"
)
def _encoder_for_texts(shape: TextShape, width: int, depth: int) -> ChainSpec:
    return encoder(
        dim=width,
        depth=depth,
        heads=max(1, width // 32),
        channel_mixer=part("mlp", ratio=2.0),
        dropout=shape.dropout / 2,
        pool=part("sequence_pool"),
        **shape.input,
    )


@candidate("language-modelling", "decoder", order=30, plain="plain Transformer", **SMALL_DECODER)
def small_decoder(
    shape: LanguageShape, width: int, depth: int, mixer: str | PartSpec = "attention", family: str = "decoder"
) -> ChainSpec:
    """A decoder for a running text, with ``mixer`` in every layer."""
    plain = decoder(
        dim=width,
        depth=depth,
        heads=max(1, width // 32),
        mixers=(mixer,),
        dropout=shape.dropout,
        tied=False,
        vocabulary=shape.vocabulary,
        length=shape.length,
    )
    return dataclasses.replace(plain, family=family)


@candidate("language-modelling", "ngram_decoder", order=10, **SMALL_DECODER)
def _with_ngrams(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A decoder whose embedding knows the n-grams that end at each place, so that few layers go a long way."""
    embed = part("ngram_embedding", ngrams=4, buckets=shape.buckets, std=0.02)
    return dataclasses.replace(small_decoder(shape, width, depth, family="ngram_decoder"), embed=embed)


@candidate("language-modelling", "convolution_decoder", order=20, **SMALL_DECODER)
def _with_convolutions(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A decoder whose blocks begin with a convolution over four tokens, which attention need not look for."""
    plain = small_decoder(shape, width, depth, family="convolution_decoder")
    stage = plain.stages[0]
    near = BranchSpec(part("short_convolution"), norm=part("rms_norm"))
    blocks = tuple(BlockSpec((near, *block.branches)) for block in stage.blocks)
    return dataclasses.replace(plain, stages=(dataclasses.replace(stage, blocks=blocks),))
