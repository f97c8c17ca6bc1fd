"""What may be proposed for a model of language: small decoders, with n-grams and with recurrent mixers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from formwright.models.language.transformer import decoder
from formwright.nn.part import PARTS
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, part
from formwright.search.open_choices import Categorical, Open
from formwright.search.space import Family, Space
from formwright.training.recipe import Recipe

WIDTHS = (32, 64, 96, 128, 192, 256, 384)
DEPTHS = (2, 4, 6)
#: What is open in the models of all families.
SIZES: Mapping[str, Open] = {"width": Categorical(WIDTHS), "depth": Categorical(DEPTHS)}


@dataclass(frozen=True)
class LanguageShape:
    """What a space needs to know of the data: ids, ids of a window, ids of the training text."""

    vocabulary: int
    length: int
    tokens: int

    @property
    def dropout(self) -> float:
        """The shorter the text, the sooner it is known by heart."""
        return 0.2 if self.tokens < 300_000 else 0.05 if self.tokens < 5_000_000 else 0.0

    @property
    def buckets(self) -> int:
        """Vectors of the n-grams of each length: more for longer texts."""
        return 2**12 if self.tokens < 300_000 else 2**14 if self.tokens < 20_000_000 else 2**16

    @property
    def batch(self) -> int:
        """Windows a step: some 4,000 ids, and fewer of a short text, which then gets more steps."""
        return max(4, min(4096, self.tokens // 64) // self.length)


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


def _family(build: Callable[..., ChainSpec]) -> Family:
    return Family(build, _RECIPE, first={"depth": 4}, narrow=64)


#: In the order in which they are tried when time is short.
FAMILIES: Mapping[str, Family] = {
    "ngram_decoder": _family(_with_ngrams),
    "convolution_decoder": _family(_with_convolutions),
    "decoder": _family(_decoder),
    **{f"{mixer.name}_decoder": _family(_mixed(mixer)) for mixer in _RECURRENT if mixer.name in PARTS},
}


class LanguageSpace(Space):
    """Decoders for running text of a shape."""

    families = FAMILIES
    shared = SIZES

    def __init__(self, shape: LanguageShape) -> None:
        self.shape = shape
        self.left_out = f"No family can take windows of {shape.length} tokens"

    def recipe(self, recipe: Recipe) -> Recipe:
        return replace(recipe, batch_size=self.shape.batch, warmup=50)

    def title(self, family: str, specification: ChainSpec, choices: Mapping[str, Any]) -> str:
        return f"{family.replace('_', ' ')} {choices['depth']} x {choices['width']}"
