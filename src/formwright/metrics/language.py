"""Scores of models of language, and the models of counts that each has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def next_token_nats(
    scores: NDArray[np.float32], targets: NDArray[np.int64], *, ignored: int = -1
) -> NDArray[np.float64]:
    """``-log softmax(scores)[target]`` of each target that is not ignored, in nats.

    Shapes: scores ``(..., vocabulary)``, targets ``(...)``; gives one dimension.
    """
    counted = targets != ignored
    rows, wanted = scores[counted], targets[counted]
    largest = rows.max(-1, keepdims=True)
    normaliser = np.log(np.exp(rows - largest).sum(-1, dtype=np.float64)) + largest[:, 0]
    return np.asarray(normaliser - np.take_along_axis(rows, wanted[:, None], -1)[:, 0], np.float64)


def unigram_nats(train: NDArray[np.int64], test: NDArray[np.int64], vocabulary: int) -> float:
    """Mean nats of the test tokens under their shares in the training text, one added to each count."""
    counts = np.bincount(train, minlength=vocabulary) + 1.0
    return float(-np.log(counts / counts.sum())[test].mean())


def ngram_nats(train: NDArray[np.int64], test: NDArray[np.int64], vocabulary: int, *, order: int = 5) -> float:
    """Mean nats of the test tokens under an interpolated n-gram model with Witten-Bell weights.

    ``p_n(w | h) = (c(h w) + u(h) p_{n-1}(w | h')) / (c(h) + u(h))`` with ``c`` counts, ``u(h)`` how many different
    tokens follow ``h``, ``h'`` the history without its first token, and ``p_0`` uniform; what was never seen backs off.

    Source: The Zero-Frequency Problem, IEEE Transactions on Information Theory 37 (1991).
    """
    probability = np.full(len(test), 1.0 / vocabulary)
    for length in range(1, order + 1):
        grams = _codes(train, length, vocabulary)
        seen, counts = np.unique(grams, return_counts=True)
        histories, first = np.unique(seen // vocabulary, return_inverse=True)
        follow = np.bincount(first, minlength=len(histories)).astype(np.float64)
        total = np.bincount(first, weights=counts, minlength=len(histories))
        asked = _codes(test, length, vocabulary)
        here = probability[length - 1 :]
        count = _looked_up(seen, counts.astype(np.float64), asked)
        kinds = _looked_up(histories, follow, asked // vocabulary)
        whole = _looked_up(histories, total.astype(np.float64), asked // vocabulary)
        known = kinds > 0
        here[known] = (count[known] + kinds[known] * here[known]) / (whole[known] + kinds[known])
    return float(-np.log(probability).mean())


def _codes(ids: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int64]:
    """A number for the ``length`` tokens that end at each place, from the first place that has as many."""
    code = np.zeros(len(ids) - length + 1, np.int64)
    for shift in range(length):
        code = code * vocabulary + ids[shift : shift + len(code)]
    return code


def _looked_up(keys: NDArray[np.int64], values: NDArray[np.float64], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value of each key that is asked for, zero for others; keys ascend."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0.0)
