"""ProbSparse attention, query by query."""

from __future__ import annotations

import math

import torch

from formwright.nn.token_mixers.prob_sparse_attention import evenly_scattered, prob_sparse_attention


def test_few_queries_attend_and_the_others_take_the_mean():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 9, 4, generator=generator, dtype=torch.float64)
    sampled, top = evenly_scattered(9, 9, 4), 3
    found = prob_sparse_attention(q, k, v, sampled, top)
    for batch in range(2):
        for head in range(3):
            one = q[batch, head], k[batch, head], v[batch, head]
            scores = [[float(one[0][row] @ one[1][key]) for key in sampled[row]] for row in range(9)]
            measure = [max(row) - sum(row) / 9 for row in scores]
            chosen = sorted(range(9), key=lambda row: -measure[row])[:top]
            for row in range(9):
                expected = one[2].mean(0)
                if row in chosen:
                    expected = torch.softmax(one[1] @ one[0][row] / math.sqrt(4), 0) @ one[2]
                torch.testing.assert_close(found[batch, head, row], expected, rtol=1e-9, atol=1e-12)


def test_with_all_queries_it_is_softmax_attention():
    q, k, v = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64)
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(prob_sparse_attention(q, k, v, evenly_scattered(5, 5, 5), 5), full)


def test_samples_are_scattered_over_all_keys():
    sampled = evenly_scattered(50, 40, 8)
    assert sampled.shape == (50, 8)
    assert set(sampled.flatten().tolist()) == set(range(40))
    assert torch.bincount(sampled.flatten()).float().std() < 2
