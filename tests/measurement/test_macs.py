"""Multiply-accumulates against closed-form counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from formwright.measurement.macs import count_macs


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.fixture(params=["cpu", "meta"])
def device(request):
    return request.param


def test_linear(device):
    model = nn.Linear(48, 20, device=device)
    assert count_macs(model, torch.zeros(3, 7, 48, device=device)) == 3 * 7 * 48 * 20


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_convolution(device, groups):
    model = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=groups, device=device)
    macs = count_macs(model, torch.zeros(2, 16, 10, 14, device=device))
    assert macs == 2 * 5 * 7 * 32 * (16 // groups) * 9


@pytest.mark.parametrize("groups", [1, 8])
def test_transposed_convolution(device, groups):
    model = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=groups, device=device)
    assert count_macs(model, torch.zeros(1, 8, 5, 5, device=device)) == 5 * 5 * 8 * (8 // groups) * 4


def test_batched_matrix_product(device):
    left, right = torch.zeros(6, 5, 8, device=device), torch.zeros(6, 8, 9, device=device)
    assert count_macs(Call(torch.bmm), left, right) == 6 * 5 * 8 * 9


def test_matrix_vector_product(device):
    matrix, vector = torch.zeros(5, 8, device=device), torch.zeros(8, device=device)
    assert count_macs(Call(torch.mv), matrix, vector) == 5 * 8
    assert count_macs(Call(torch.dot), vector, vector) == 8


def test_weighted_sum_of_rows(device):
    def rows(table, indices, weights=None):
        return F.embedding_bag(indices, table, per_sample_weights=weights, mode="sum")

    table, indices = torch.zeros(64, 8, device=device), torch.zeros(5, 3, dtype=torch.long, device=device)
    assert count_macs(Call(rows), table, indices, torch.ones(5, 3, device=device)) == 5 * 3 * 8
    assert count_macs(Call(rows), table, indices) == 0


@pytest.mark.parametrize("mask", [None, "boolean", "bias", "causal"])
@pytest.mark.parametrize("value_dim", [8, 6])
def test_attention(device, mask, value_dim):
    batch, heads, queries, keys, dim = 2, 4, 5, 7, 8
    q = torch.zeros(batch, heads, queries, dim, device=device)
    k = torch.zeros(batch, heads, keys, dim, device=device)
    v = torch.zeros(batch, heads, keys, value_dim, device=device)
    options = {
        None: {},
        "boolean": {"attn_mask": torch.ones(queries, keys, dtype=torch.bool, device=device)},
        "bias": {"attn_mask": torch.zeros(batch, heads, queries, keys, device=device)},
        "causal": {"is_causal": True},
    }[mask]
    macs = count_macs(Call(lambda *qkv: F.scaled_dot_product_attention(*qkv, **options)), q, k, v)
    assert macs == batch * heads * queries * keys * (dim + value_dim)


def test_attention_with_gradients_and_grouped_heads():
    q = torch.zeros(2, 8, 5, 16, requires_grad=True)
    k = v = torch.zeros(2, 2, 5, 16)
    macs = count_macs(Call(lambda *qkv: F.scaled_dot_product_attention(*qkv, enable_gqa=True)), q, k, v)
    assert macs == 2 * 8 * 5 * 5 * 32


def test_transformer_layer_counts_although_it_has_a_fused_path():
    tokens, dim, hidden = 9, 32, 64
    layer = nn.TransformerEncoderLayer(dim, 4, hidden, batch_first=True)
    expected = tokens * dim * 4 * dim + 2 * tokens * tokens * dim + 2 * tokens * dim * hidden
    assert count_macs(layer, torch.zeros(1, tokens, dim)) == expected


@pytest.mark.parametrize("points", [16, 12])
def test_fourier_transforms(points):
    complex_macs = round(5 * 3 * points * math.log2(points)) // 2
    x = torch.zeros(3, points)
    assert count_macs(Call(torch.fft.fft), x.to(torch.complex64)) == complex_macs
    assert count_macs(Call(torch.fft.rfft), x) == pytest.approx(complex_macs / 2, abs=1)
    spectrum = torch.zeros(3, points // 2 + 1, dtype=torch.complex64)
    assert count_macs(Call(lambda s: torch.fft.irfft(s, n=points)), spectrum) == pytest.approx(complex_macs / 2, abs=1)


def test_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.ReLU())
    model[2].eval()  # a part that its owner froze
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, state = torch.randn(2, 3, 8, 8), torch.random.get_rng_state()
    count_macs(model, x)
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()


def test_puts_modes_back_after_an_error():
    model = nn.Sequential(nn.Linear(4, 4)).train()
    with pytest.raises(RuntimeError):
        count_macs(model, torch.zeros(1, 5))
    assert model.training
    assert model[0].training
