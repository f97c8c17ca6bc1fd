"""What may be proposed for a classification of texts: bags, n-grams and small encoders, with words to drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from formwright.models.language.text_classifiers import bag_of_embeddings, text_cct, text_cnn
from formwright.models.language.transformer import encoder
from formwright.nn.specification import ChainSpec, part
from formwright.search.open_choices import Categorical, Open
from formwright.search.space import Family, Space
from formwright.training.recipe import Recipe

WIDTHS = (16, 32, 64, 96, 128, 192)
DEPTHS = (1, 2, 3)
#: What is open in the models of all families.
SIZES: Mapping[str, Open] = {"width": Categorical(WIDTHS), "depth": Categorical(DEPTHS)}


@dataclass(frozen=True)
class TextShape:
    """What a space needs to know of the data: tokens, longest text, classes, training texts."""

    vocabulary: int
    length: int
    padding: int
    classes: int
    texts: int

    @property
    def dropout(self) -> float:
        """The fewer texts, the sooner they are known by heart."""
        return 0.5 if self.texts < 20_000 else 0.3 if self.texts < 200_000 else 0.1

    @property
    def input(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "length": self.length,
            "padding": self.padding,
            "classes": self.classes,
        }


def _heads(width: int) -> int:
    return max(1, width // 32)


def _bag(shape: TextShape, width: int, depth: int) -> ChainSpec:
    """Depth is the length of the n-grams; their table grows with the data."""
    buckets = 2**12
    while buckets < shape.texts and buckets < 2**18:
        buckets *= 2
    return bag_of_embeddings(dim=width, ngrams=depth, buckets=buckets, dropout=shape.dropout, **shape.input)


def _cnn(shape: TextShape, width: int, depth: int) -> ChainSpec:
    kernels = ((3,), (2, 3), (3, 4, 5))[depth - 1]
    dim = -(-2 * width // len(kernels)) * len(kernels)
    return text_cnn(dim=dim, embedding=width, kernels=kernels, dropout=shape.dropout, **shape.input)


def _cct(shape: TextShape, width: int, depth: int) -> ChainSpec:
    return text_cct(
        dim=width,
        depth=depth,
        heads=_heads(width),
        mlp_ratio=1.0,
        embedding=width,
        dropout=shape.dropout / 2,
        **shape.input,
    )


def _encoder(shape: TextShape, width: int, depth: int) -> ChainSpec:
    return encoder(
        dim=width,
        depth=depth,
        heads=_heads(width),
        channel_mixer=part("mlp", ratio=2.0),
        dropout=shape.dropout / 2,
        pool=part("sequence_pool"),
        **shape.input,
    )


_ADAMW = Recipe(optimizer="adamw", learning_rate=0.01, weight_decay=0.01, ema_decay=0.99)
_MUON = Recipe(learning_rate=0.01, vector_learning_rate=2e-3, weight_decay=0.05, ema_decay=0.99)

#: In the order in which they are tried when time is short.
FAMILIES: Mapping[str, Family] = {
    "bag_of_embeddings": Family(_bag, _ADAMW, first={"depth": 1}),
    "encoder": Family(_encoder, _MUON, first={"depth": 1}),
    "text_cnn": Family(_cnn, replace(_ADAMW, learning_rate=5e-3), first={"depth": 3}),
    "text_cct": Family(_cct, _MUON, first={"depth": 2}),
}


class TextSpace(Space):
    """Four kinds of classifiers for texts of a shape."""

    families = FAMILIES
    shared = SIZES

    def __init__(self, shape: TextShape) -> None:
        self.shape = shape
        self.left_out = f"No family can take texts of {shape.length} tokens"

    def recipe(self, recipe: Recipe) -> Recipe:
        texts = self.shape.texts
        batch = 128 if texts >= 50_000 else 64 if texts >= 2000 else 32 if texts >= 500 else 16
        return replace(recipe, batch_size=batch, warmup=int(min(100, max(10, 0.5 * texts / batch))))

    def title(self, family: str, specification: ChainSpec, choices: Mapping[str, Any]) -> str:
        return f"{family.replace('_', ' ')} {choices['depth']} x {choices['width']}"
