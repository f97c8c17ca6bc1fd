"""Models of counts against their definition, and nats against PyTorch's."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from formwright.metrics.language import next_token_nats, ngram_nats, unigram_nats


def test_nats_are_cross_entropy():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 5, 7)).astype(np.float32) * 30
    targets = rng.integers(0, 7, (3, 5))
    targets[0, :2] = -1
    found = next_token_nats(scores, targets)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(scores).double().flatten(0, 1), torch.from_numpy(targets).flatten(), reduction="none",
        ignore_index=-1,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected.numpy()[2:], atol=1e-5)


def naive(train: list[int], test: list[int], vocabulary: int, order: int) -> float:
    counts: dict[tuple, Counter] = defaultdict(Counter)
    for length in range(order):
        for place in range(length, len(train)):
            counts[tuple(train[place - length : place])][train[place]] += 1

    def probability(history: tuple, token: int) -> float:
        shorter = probability(history[1:], token) if history else 1 / vocabulary
        seen = counts.get(history)
        if not seen:
            return shorter
        return (seen[token] + len(seen) * shorter) / (sum(seen.values()) + len(seen))

    nats = [
        -math.log(probability(tuple(test[max(0, place - order + 1) : place]), token))
        for place, token in enumerate(test)
    ]
    return sum(nats) / len(nats)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_ngrams_are_interpolated_as_defined(order):
    rng = np.random.default_rng(1)
    train, test = rng.integers(0, 4, 300), rng.integers(0, 5, 80)
    assert ngram_nats(train, test, 5, order=order) == pytest.approx(naive(train.tolist(), test.tolist(), 5, order))


def test_the_probabilities_of_all_next_tokens_are_one():
    train = np.array([0, 1, 2, 0, 1, 3, 0, 1])
    total = sum(math.exp(-3 * ngram_nats(train, np.array([0, 1, token]), 4, order=3)
                         + 2 * ngram_nats(train, np.array([0, 1]), 4, order=3)) for token in range(4))  # fmt: skip
    assert total == pytest.approx(1.0)


def test_unigrams_are_shares():
    assert unigram_nats(np.array([0, 0, 1]), np.array([0]), 2) == pytest.approx(-math.log(3 / 5))
