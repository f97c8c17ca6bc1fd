"""What may be proposed for a model of language: small decoders, with n-grams and with recurrent mixers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from formwright.models.language.transformer import decoder
from formwright.nn.part import PARTS
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, part
from formwright.search.space import SPACES, Family, Peer, Proposal, Space
from formwright.shapes import LanguageShape
from formwright.training.recipe import Recipe

WIDTHS = (32, 64, 96, 128, 192, 256, 384)
DEPTHS = (2, 4, 6)


def _decoder(
    shape: LanguageShape, width: int, depth: int, mixers: tuple[str | PartSpec, ...] = ("attention",)
) -> ChainSpec:
    return decoder(
        dim=width,
        depth=depth,
        heads=max(1, width // 32),
        mixers=mixers,
        dropout=shape.dropout,
        tied=False,
        vocabulary=shape.vocabulary,
        length=shape.length,
    )


def _with_ngrams(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A decoder whose embedding knows the n-grams that end at each place, so that few layers go a long way."""
    embed = part("ngram_embedding", ngrams=4, buckets=shape.buckets, std=0.02)
    return replace(_decoder(shape, width, depth), family="ngram_decoder", embed=embed)


def _with_convolutions(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
    """A decoder whose blocks begin with a convolution over four tokens, which attention need not look for."""
    plain = _decoder(shape, width, depth)
    stage = plain.stages[0]
    near = BranchSpec(part("short_convolution"), norm=part("rms_norm"))
    blocks = tuple(BlockSpec((near, *block.branches)) for block in stage.blocks)
    return replace(plain, family="convolution_decoder", stages=(replace(stage, blocks=blocks),))


def _mixed(mixer: PartSpec) -> Callable[[LanguageShape, int, int], ChainSpec]:
    """A decoder with a recurrent mixer in every layer."""

    def build(shape: LanguageShape, width: int, depth: int) -> ChainSpec:
        return replace(_decoder(shape, width, depth, (mixer,)), family=f"{mixer.name}_decoder")

    return build


_RECIPE = Recipe(learning_rate=0.02, vector_learning_rate=3e-3, weight_decay=0.05, ema_decay=0.99, label_smoothing=0.0)
_RECURRENT = (
    part("gated_linear_attention"),
    part("delta_rule"),
    part("mamba2", states=32, head_dim=32),
    part("mamba"),
)

#: In the order in which they are tried when time is short.
FAMILIES: Mapping[str, Family] = {
    "ngram_decoder": Family(_with_ngrams, _RECIPE, depth=4, narrow=64),
    "convolution_decoder": Family(_with_convolutions, _RECIPE, depth=4, narrow=64),
    "decoder": Family(_decoder, _RECIPE, depth=4, narrow=64),
    **{
        f"{mixer.name}_decoder": Family(_mixed(mixer), _RECIPE, depth=4, narrow=64)
        for mixer in _RECURRENT
        if mixer.name in PARTS
    },
}


@SPACES.register("language-modelling")
class LanguageSpace(Space):
    """Decoders for running text of a shape."""

    families = FAMILIES
    widths = WIDTHS
    depths = DEPTHS
    peer = Peer("plain Transformer", "decoder")

    def __init__(self, shape: LanguageShape) -> None:
        self.shape = shape
        self.left_out = f"No family can take windows of {shape.length} tokens"

    def propose(self, family: str, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
        entry, batch = self.families[family], self.shape.batch
        recipe = replace(
            entry.recipe,
            learning_rate=entry.recipe.learning_rate * rate,
            vector_learning_rate=entry.recipe.vector_learning_rate * rate,
            batch_size=batch,
            warmup=50,
        )
        choices = {"family": family, "width": width, "depth": depth, "rate": rate}
        name = f"{family.replace('_', ' ')} {depth} x {width}"
        return Proposal(family, name, choices, entry.build(self.shape, width, depth), recipe)
