"""Trivial classifiers that every model has to beat to be worth anything."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_SIDE = 32
_MOST_VALUES = 32_000_000
_ROUND = 10  # iterations between looks at the clock
_MOST_ITERATIONS = 100
_MOST_TEXTS = 50_000


@dataclass(frozen=True)
class Answers:
    """A baseline's ``probabilities (n, classes)`` on the test part, the seconds it took, and how it was made."""

    name: str
    probabilities: NDArray[np.float64]
    seconds: float
    note: str


def majority_class(train_labels: NDArray[np.int64], count: int, classes: int) -> Answers:
    """Give each of ``count`` samples the classes' shares in the training labels: the largest class is predicted."""
    shares = np.bincount(train_labels, minlength=classes) / len(train_labels)
    return Answers("majority class", np.tile(shares, (count, 1)), 0.0, "the training labels' shares, for every sample")


def logistic_regression(
    train_images: NDArray[np.uint8],
    train_labels: NDArray[np.int64],
    test_images: NDArray[np.uint8],
    classes: int,
    *,
    seconds: float = 20.0,
    seed: int = 0,
) -> Answers:
    """Multinomial logistic regression on standardised pixels, ``(n, height, width, channels)``, stopped in time.

    Pictures are averaged down to 32 pixels a side at most, and so many training pictures are drawn that they hold 32
    million values at most. scikit-learn's defaults are used; L-BFGS stops when it converges, after 100 iterations, or
    when ten more would not end within ``seconds``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    features = int(np.prod(_shrink(train_images[:1]).shape))
    most = max(classes, _MOST_VALUES // features)
    chosen = np.arange(len(train_labels))
    if most < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    pixels = _as_features(train_images, chosen)
    mean, std = pixels.mean(axis=0), np.maximum(pixels.std(axis=0), 1.0)
    pixels = (pixels - mean) / std
    labels = train_labels[chosen]
    model = LogisticRegression(max_iter=_ROUND, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        iterations, end = 0, ""
        while not end:
            round_start = time.perf_counter()
            model.fit(pixels, labels)
            iterations += int(model.n_iter_[0])
            now = time.perf_counter()
            if model.n_iter_[0] < _ROUND:
                end = "converged"
            elif iterations >= _MOST_ITERATIONS:
                end = "stopped there"
            elif now - start + (now - round_start) > seconds:
                end = f"stopped by its limit of {seconds:g} s"
    probabilities = np.zeros((len(test_images), classes))
    for begin in range(0, len(test_images), 4096):
        indices = np.arange(begin, min(begin + 4096, len(test_images)))
        block = (_as_features(test_images, indices) - mean) / std
        probabilities[indices[:, None], model.classes_] = model.predict_proba(block)
    note = f"{features} standardised pixel values of {len(chosen)} training pictures, {iterations} iterations, {end}"
    return Answers("logistic regression", probabilities, time.perf_counter() - start, note)


def ngram_regression(
    train_texts: Sequence[str],
    train_labels: NDArray[np.int64],
    test_texts: Sequence[str],
    classes: int,
    *,
    seed: int = 0,
) -> Answers:
    """Multinomial logistic regression on the tf-idf weights of words and pairs of words that occur at least twice.

    50,000 training texts at most are drawn, and the 100,000 most frequent features at most are taken.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    chosen = np.arange(len(train_texts))
    if len(chosen) > _MOST_TEXTS:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, _MOST_TEXTS, replace=False))
    drawn = [train_texts[index] for index in chosen.tolist()]
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=min(2, len(drawn)), max_features=100_000, sublinear_tf=True, token_pattern=r"\S+"
    )
    features = vectorizer.fit_transform(drawn)
    model = LogisticRegression(C=4.0, max_iter=_MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, train_labels[chosen])
    probabilities = np.zeros((len(test_texts), classes))
    probabilities[:, model.classes_] = model.predict_proba(vectorizer.transform(test_texts))
    note = f"tf-idf weights of {features.shape[1]:,} words and pairs of words in {len(drawn):,} training texts"
    return Answers("logistic regression on n-grams", probabilities, time.perf_counter() - start, note)


def _as_features(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.float32]:
    blocks = [_shrink(images[indices[begin : begin + 1024]]) for begin in range(0, len(indices), 1024)]
    return np.concatenate([block.reshape(len(block), -1) for block in blocks])


def _shrink(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average blocks of pixels, so that no side is longer than 32; the rest at the right and bottom is cut off."""
    count, height, width, channels = images.shape
    block = -(-max(height, width) // _MOST_SIDE)
    if block == 1:
        return images.astype(np.float32)
    rows, columns = max(1, height // block), max(1, width // block)
    images = images[:, : rows * block, : columns * block]
    blocks = images.reshape(count, rows, min(block, height), columns, min(block, width), channels)
    return blocks.mean(axis=(2, 4), dtype=np.float32)
