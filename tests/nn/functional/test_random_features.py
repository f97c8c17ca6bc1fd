"""Feature maps: what their inner products are, exactly or on average."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.exponential_attention import exponential_attention
from formwright.nn.functional.linear_attention import causal_linear_attention, linear_attention
from formwright.nn.functional.random_features import (
    cosine_features,
    orthogonal_gaussian,
    positive_softmax_exponents,
)
from tests.nn.functional.naive import LENGTHS, heads, hold, naive_attention, some_mask


def naive_weighted(q: Tensor, k: Tensor, v: Tensor, weigh, mask: Tensor, causal: bool) -> Tensor:  # type: ignore[no-untyped-def]
    """``sum_j w_ij v_j / sum_j w_ij`` with all pairs written out."""
    weights = weigh(q, k) * mask[:, None, None]
    weights = weights.tril() if causal else weights
    return torch.einsum("bhqk,bkhc->bqhc", weights / (weights.sum(-1, keepdim=True) + 1e-10), v)


def cosine_weights(q: Tensor, k: Tensor, length: int = 50) -> Tensor:
    place = torch.arange(q.shape[1], dtype=torch.float64)
    near = torch.cos(math.pi / 2 * (place[:, None] - place) / length)
    return torch.einsum("bqhc,bkhc->bhqk", q.relu(), k.relu()) * near


def mix(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    if causal:
        return causal_linear_attention(q, k, v, mask=mask, normalize=True)[0]
    return linear_attention(q, k, v, mask=mask, normalize=True)


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("causal", [False, True], ids=["both-sides", "causal"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_linear_forms_are_their_quadratic_ones(time: int, causal: bool, masked: bool) -> None:
    mask = some_mask(time) if masked else None
    real = torch.ones(2, time, dtype=torch.bool) if mask is None else mask
    places = torch.arange(time)[None]

    def cosine(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return mix(*(cosine_features(x, places, 50) for x in (q, k)), v, mask, causal)

    naive = functools.partial(naive_weighted, weigh=cosine_weights, mask=real, causal=causal)
    q, k, v = heads(time)  # a query without a positive channel has no weights, and its quotient no good gradient
    hold(cosine, naive, [q.abs() + 0.1, k.abs() + 0.1, v], real)


def test_weights_of_cosformer_are_not_negative() -> None:
    q, k = heads(49, 2)
    assert (cosine_weights(q, k) >= 0).all()


def test_rows_are_orthogonal_with_lengths_of_normal_vectors() -> None:
    torch.manual_seed(0)
    rows = orthogonal_gaussian(40, 16)
    gram = rows[:16] @ rows[:16].T
    torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-4, rtol=0)
    assert rows.shape == (40, 16)
    assert rows.norm(dim=1).square().mean() == pytest.approx(16, rel=0.3)


def test_many_features_approach_softmax_attention() -> None:
    torch.manual_seed(0)
    q, k, v = heads(30)
    q, k = q / 2, k / 2
    full = naive_attention(q, k, v, torch.ones(2, 30, 30, dtype=torch.bool))
    errors = []
    for features in (16, 256, 4096):
        projection = orthogonal_gaussian(features, 4).double()
        exponents = [positive_softmax_exponents(x, projection, query=query) for x, query in ((q, True), (k, False))]
        y = exponential_attention(*exponents, v)
        errors.append((y - full).square().mean().sqrt().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.2 * full.std()
