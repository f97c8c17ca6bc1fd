"""Small classifiers of texts: bags of embeddings, convolutions over n-grams, and the compact Transformer for texts.

Sources: Bag of Tricks for Efficient Text Classification, arXiv 1607.01759; Convolutional Neural Networks for Sentence
Classification, arXiv 1408.5882; Escaping the Big Data Paradigm with Compact Transformers, arXiv 2104.05704.
"""

from __future__ import annotations

from formwright.candidates import candidate
from formwright.models.language.transformer import BYTES_PADDING, BYTES_VOCABULARY, ENCODER_RECIPE
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, TokenInput, part
from formwright.shapes import TextShape


def _classifier(
    family: str, name: str, vocabulary: int, length: int, padding: int | None, classes: int,
    embed: PartSpec, stage: StageSpec, head: PartSpec,
) -> ChainSpec:  # fmt: skip
    return ChainSpec(
        family=family,
        name=name,
        task="text-classification",
        input=TokenInput(vocabulary, length, padding),
        classes=classes,
        embed=embed,
        stages=(stage,),
        head=head,
    )


def bag_of_embeddings(
    *,
    name: str = "bag_of_embeddings",
    dim: int,
    ngrams: int = 2,
    buckets: int = 2**14,
    dropout: float = 0.0,
    vocabulary: int = BYTES_VOCABULARY,
    length: int = 512,
    padding: int | None = BYTES_PADDING,
    classes: int = 2,
) -> ChainSpec:
    """The mean of the vectors of tokens and n-grams, and a linear classifier: what fastText does.

    Args:
        dim: channels of a token.
        ngrams: the longest sequences of tokens with a vector.
        buckets: vectors of the sequences of each length.
        dropout: share of values dropped in training.
    """
    embed = part("ngram_embedding", ngrams=ngrams, buckets=buckets, dropout=dropout)
    head = part("classifier", pool=part("mean_pool"))
    stage = StageSpec(dim, ())
    return _classifier("bag_of_embeddings", name, vocabulary, length, padding, classes, embed, stage, head)


def text_cnn(
    *,
    name: str = "text_cnn",
    dim: int,
    embedding: int,
    kernels: tuple[int, ...] = (3, 4, 5),
    dropout: float = 0.0,
    vocabulary: int = BYTES_VOCABULARY,
    length: int = 512,
    padding: int | None = BYTES_PADDING,
    classes: int = 2,
) -> ChainSpec:
    """Detectors of n-grams, the strongest answer of each, and a linear classifier.

    Args:
        dim: detectors in all.
        embedding: channels of a token.
        kernels: lengths of the n-grams.
        dropout: share of values dropped in training; half as many of the embedding's.
    """
    embed = part("convolutional_ngrams", embedding=embedding, kernels=kernels, dropout=dropout / 2)
    head = part("classifier", pool=part("max_pool", dropout=dropout))
    stage = StageSpec(dim, ())
    return _classifier("text_cnn", name, vocabulary, length, padding, classes, embed, stage, head)


def text_cct(
    *,
    name: str = "text_cct",
    dim: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    embedding: int = 300,
    kernel: int = 3,
    dropout: float = 0.0,
    vocabulary: int = BYTES_VOCABULARY,
    length: int = 512,
    padding: int | None = BYTES_PADDING,
    classes: int = 2,
) -> ChainSpec:
    """A compact convolutional Transformer for texts; layers and pooling are those of the one for images.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over ``dim``.
        embedding: channels of an id before the convolutional tokeniser.
        kernel: length of its convolution.
        dropout: share of values dropped in training.
    """
    norm = part("layer_norm")
    block = BlockSpec(
        (
            BranchSpec(part("attention", heads=heads, dropout=dropout), norm=norm, post_norm=norm),
            BranchSpec(part("mlp", ratio=mlp_ratio, dropout=dropout)),
        )
    )
    embed = part("convolutional_text_tokenizer", embedding=embedding, kernel=kernel, dropout=dropout)
    stage = StageSpec(dim, (block,) * depth, entry=(part("learned_positions"),))
    head = part("classifier", norm=norm, pool=part("sequence_pool"))
    return _classifier("text_cct", name, vocabulary, length, padding, classes, embed, stage, head)


_RECIPE = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01, "ema_decay": 0.99}


@candidate("text-classification", "bag_of_embeddings", order=10, recipe=_RECIPE, first={"depth": 1})
def _bag_for_texts(shape: TextShape, width: int, depth: int) -> ChainSpec:
    """Depth is the length of the n-grams; their table grows with the data."""
    buckets = 2**12
    while buckets < shape.texts and buckets < 2**18:
        buckets *= 2
    return bag_of_embeddings(dim=width, ngrams=depth, buckets=buckets, dropout=shape.dropout, **shape.input)


@candidate("text-classification", "text_cnn", order=30, recipe={**_RECIPE, "learning_rate": 5e-3}, first={"depth": 3})
def _cnn_for_texts(shape: TextShape, width: int, depth: int) -> ChainSpec:
    """Depth is the number of kernels."""
    kernels = ((3,), (2, 3), (3, 4, 5))[depth - 1]
    dim = -(-2 * width // len(kernels)) * len(kernels)
    return text_cnn(dim=dim, embedding=width, kernels=kernels, dropout=shape.dropout, **shape.input)


@candidate("text-classification", "text_cct", order=40, recipe=ENCODER_RECIPE, first={"depth": 2})
def _cct_for_texts(shape: TextShape, width: int, depth: int) -> ChainSpec:
    return text_cct(
        dim=width,
        depth=depth,
        heads=max(1, width // 32),
        mlp_ratio=1.0,
        embedding=width,
        dropout=shape.dropout / 2,
        **shape.input,
    )
