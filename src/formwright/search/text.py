"""What may be proposed for a classification of texts: bags, n-grams and small encoders, with words to drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from formwright.models.language.text_classifiers import bag_of_embeddings, text_cct, text_cnn
from formwright.models.language.transformer import encoder
from formwright.nn.specification import ChainSpec, part
from formwright.search.space import SPACES, Family, Peer, Proposal, Space
from formwright.shapes import TextShape
from formwright.training.recipe import Recipe

WIDTHS = (16, 32, 64, 96, 128, 192)
DEPTHS = (1, 2, 3)


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
    "bag_of_embeddings": Family(_bag, _ADAMW, depth=1),
    "encoder": Family(_encoder, _MUON, depth=1),
    "text_cnn": Family(_cnn, replace(_ADAMW, learning_rate=5e-3), depth=3),
    "text_cct": Family(_cct, _MUON, depth=2),
}


@SPACES.register("text-classification")
class TextSpace(Space):
    """Four kinds of classifiers for texts of a shape."""

    families = FAMILIES
    widths = WIDTHS
    depths = DEPTHS
    peer = Peer("plain Transformer", "encoder")

    def __init__(self, shape: TextShape) -> None:
        self.shape = shape
        self.left_out = f"No family can take texts of {shape.length} tokens"

    def propose(self, family: str, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
        entry, texts = self.families[family], self.shape.texts
        batch = 128 if texts >= 50_000 else 64 if texts >= 2000 else 32 if texts >= 500 else 16
        recipe = replace(
            entry.recipe,
            learning_rate=entry.recipe.learning_rate * rate,
            vector_learning_rate=entry.recipe.vector_learning_rate * rate,
            batch_size=batch,
            warmup=int(min(100, max(10, 0.5 * texts / batch))),
        )
        choices = {"family": family, "width": width, "depth": depth, "rate": rate}
        name = f"{family.replace('_', ' ')} {depth} x {width}"
        return Proposal(family, name, choices, entry.build(self.shape, width, depth), recipe)
