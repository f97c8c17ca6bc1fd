"""Tables that are looked up by the signs of a token."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.measurement.macs import count_macs
from formwright.nn.channel_mixers.lookup_mlp import LookupLayer, LookupMLP
from formwright.nn.functional.lookup import sign_addresses, vertex_probability


def loop(layer: LookupLayer, x: Tensor) -> Tensor:
    """The formula, token by token and table by table."""
    tables = layer.tables.view(-1, 2**layer.bits, layer.tables.shape[-1])
    rows = []
    for token in x:
        y = layer.bias
        for table, z in zip(tables, token.split(layer.bits), strict=True):
            address = int("".join("1" if value >= 0 else "0" for value in z), 2)
            share = 1 / (1 + (-2 * z.abs()).exp()).prod()
            y = y + share * table[address] * (z.abs().sum() if "scaled" in layer.score.__name__ else 1)
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("score", ["vertex_probability", "scaled_vertex_probability"])
def test_value_and_gradients_are_those_of_the_formula(score: str) -> None:
    torch.manual_seed(0)
    layer = LookupLayer(12, 5, bits=3, score=score).double()
    x = torch.randn(7, 12, dtype=torch.float64, requires_grad=True)
    weights, inputs = torch.randn(7, 5, dtype=torch.float64), (x, layer.tables, layer.bias)
    y, expected = layer(x), loop(layer, x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad((y * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_first_channel_is_the_most_significant_bit_and_zero_counts_as_one() -> None:
    z = torch.tensor([[[-1.0, 1.0]], [[1.0, -1.0]], [[0.0, 0.0]], [[-1.0, -1.0]]])
    assert sign_addresses(z).flatten().tolist() == [1, 2, 3, 0]
    assert sign_addresses(z.view(1, 4, 2)).flatten().tolist() == [1, 4 + 2, 8 + 3, 12]


def test_the_probability_is_that_of_a_softmax_over_all_vertices() -> None:
    z = torch.randn(6, 3, dtype=torch.float64)
    vertices = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    torch.testing.assert_close(vertex_probability(z), (z @ vertices.T).softmax(-1).amax(-1))


def test_a_layer_costs_one_over_bits_of_a_dense_one() -> None:
    layer = LookupLayer(64, 48, bits=8)
    assert count_macs(layer, torch.zeros(10, 64)) == 10 * 64 * 48 // 8
    assert sum(p.numel() for p in layer.parameters()) == 8 * 256 * 48 + 48


def test_the_second_layer_of_an_mlp_has_as_many_larger_tables() -> None:
    mlp = LookupMLP(64)
    assert mlp.first.tables.shape == (8 * 2**8, 80)
    assert mlp.second.tables.shape == (8 * 2**10, 64)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="20 channels cannot be hashed 8 at a time"):
        LookupMLP(20)
    with pytest.raises(UserError, match=r"2\^17 rows"):
        LookupLayer(34, 4, bits=17)
    with pytest.raises(UserError, match=r"2\^0 rows"):
        LookupLayer(34, 4, bits=0)
    with pytest.raises(UserError, match="vertex_probability"):
        LookupLayer(8, 4, score="probability")
