"""Logistic regression on n-grams: what every classifier of texts has to beat.

Each token, and each sequence of tokens, has one value per class; a text's scores are their sum over the root of how
many tokens it has. That is a linear model of counts, so its weights are found by a solver and not by steps. Tokens are
pieces of words, so the sequences are parts of words, words, and words in a row.

Source: Baselines and Bigrams: Simple, Good Sentiment and Topic Classification, ACL 2012 (linear models on n-grams);
Feature Hashing for Large Scale Multitask Learning, arXiv 0902.2206 (a table of buckets for what has no row of its own).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.candidates import candidate
from formwright.models.network import Network
from formwright.models.solving import logistic_regression
from formwright.nn.specification import ChainSpec, StageSpec, TokenInput, part
from formwright.open_choices import Categorical
from formwright.shapes import TextShape

if TYPE_CHECKING:
    from formwright.candidates import Take

#: The longest sequence of tokens that counts, and in how many training texts one occurs at least that does.
LONGEST, FEWEST = 2, 2
#: Weights at most, which bounds the memory of the solver; tokens at most that are counted, which bounds its time.
MOST_WEIGHTS, MOST_TOKENS = 2**22, 8_000_000


def ngram_regression(
    *,
    name: str = "ngram_regression",
    buckets: int,
    ngrams: int = LONGEST,
    vocabulary: int,
    length: int,
    padding: int | None,
    classes: int,
) -> ChainSpec:
    """A linear model of the counts of tokens and of sequences of up to ``ngrams`` of them, hashed into ``buckets``."""
    return ChainSpec(
        family="ngram_regression",
        name=name,
        task="text-classification",
        input=TokenInput(vocabulary, length, padding),
        classes=classes,
        embed=part("ngram_embedding", ngrams=ngrams, buckets=buckets),
        stages=(StageSpec(classes, ()),),
        head=part("classifier", pool=part("root_pool")),
    )


def fit(model: Network, take: Take, seed: int) -> None:
    """Find the weights: counts over the root of a text's length, each n-gram weighted by how rare it is."""
    network: Any = model
    ids, labels = take(max(MOST_TOKENS // model.specification.input.length, 1))
    counts = _counts(network, ids)
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    rarity = np.where(texts >= FEWEST, np.log((1 + len(labels)) / (1 + texts)) + 1, 0.0)
    kept = np.flatnonzero(rarity)
    features = counts[:, kept].multiply(rarity[kept]).tocsr()
    weight, bias = logistic_regression(features, labels, model.specification.classes, seed=seed)
    values = torch.zeros(counts.shape[1], len(bias))
    values[torch.from_numpy(kept)] = torch.from_numpy((weight * rarity[kept]).T).float()
    tables = [network.backbone.embed.weight, *network.backbone.embed.tables]
    with torch.no_grad():
        for table, own in zip(tables, torch.split(values, [len(table) for table in tables]), strict=True):
            table.copy_(own)
        network.head.linear.weight.copy_(torch.eye(len(bias)))
        network.head.linear.bias.copy_(torch.from_numpy(bias))


def _counts(network: Any, ids: Tensor) -> Any:
    """The sparse matrix ``(texts, rows of all tables)`` whose product with the tables is what the head sees."""
    from scipy.sparse import csr_matrix

    embed = network.backbone.embed
    real = ids != network.specification.input.padding
    columns, start = [ids], len(embed.weight)
    for code in embed.codes(ids):
        columns.append(code + start)
        start += embed.buckets
    length = real.sum(1).clamp(min=1)
    rows: NDArray[np.int64] = torch.arange(len(ids))[:, None].expand_as(ids)[real].numpy()
    values = length.float().rsqrt()[:, None].expand(ids.shape)[real].numpy()
    places = np.concatenate([column[real].numpy() for column in columns])
    tiled = (np.tile(values, len(columns)), (np.tile(rows, len(columns)), places))
    return csr_matrix(tiled, shape=(len(ids), start))


@candidate(
    "text-classification",
    "ngram_regression",
    order=5,
    choices={"buckets": Categorical((2**12, 2**14, 2**16, 2**18))},
    scale="buckets",
    narrow=0,
    fit=fit,
    called="logistic regression on n-grams",
)
def _for_texts(shape: TextShape, buckets: int) -> ChainSpec:
    """With many classes, fewer buckets do."""
    while buckets > 2**12 and buckets * shape.classes * LONGEST > MOST_WEIGHTS:
        buckets //= 2
    return ngram_regression(buckets=buckets, **shape.input)
