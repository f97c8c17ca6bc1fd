"""The MLP that keeps a few hidden values a token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.measurement.macs import count_macs
from formwright.nn.channel_mixers.mlp import MLP
from formwright.nn.channel_mixers.sparse_mlp import TopKMLP
from formwright.nn.edits import keep_entries


def loop(module: TopKMLP, x: Tensor) -> Tensor:
    """The formula, token by token."""
    rows = []
    for token in x.flatten(0, -2):
        hidden = module.fc1(token).relu()
        kept = sorted(range(len(hidden)), key=lambda i: hidden[i].item())[-module.k :]
        rows.append(sum(hidden[i] * module.fc2.weight[:, i] for i in kept) + module.fc2.bias)
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_value_in_training_and_in_inference_is_that_of_the_formula(k: int) -> None:
    torch.manual_seed(0)
    module, x = TopKMLP(8, k=k, hidden=32).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    nn.init.normal_(module.fc1.bias)
    expected = loop(module, x)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_keeping_all_is_a_plain_mlp() -> None:
    torch.manual_seed(0)
    module, plain = TopKMLP(8, k=32), MLP(8, activation="relu")
    plain.load_state_dict(module.state_dict())
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(module(x), plain(x))


def test_dropped_values_get_no_gradient_and_kept_ones_the_right_one() -> None:
    torch.manual_seed(0)
    module, x = TopKMLP(4, k=2, hidden=6).double(), torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    nn.init.uniform_(module.fc1.bias, 1, 2)
    places = set(module.kept(x)[1][0].tolist())
    module(x).sum().backward()
    assert module.fc1.bias.grad is not None
    assert {i for i, gradient in enumerate(module.fc1.bias.grad.tolist()) if gradient} == places
    assert torch.autograd.gradcheck(module, (x,))


def test_inference_costs_the_kept_columns_alone() -> None:
    module = TopKMLP(8, k=4, hidden=32, bias=False)
    assert count_macs(module, torch.zeros(3, 8)) == 3 * (8 * 32 + 4 * 8)


def test_it_can_be_cut_below_k() -> None:
    model = nn.ModuleDict({"part": TopKMLP(8, k=4, hidden=16)})
    keep_entries(model, "part", "hidden", [1, 5])
    with torch.no_grad():
        assert model["part"](torch.randn(3, 8)).shape == (3, 8)


@pytest.mark.parametrize("k", [0, -1, 33])
def test_a_k_that_is_not_possible_is_refused(k: int) -> None:
    with pytest.raises(UserError, match=f"all 32 .* k = {k}"):
        TopKMLP(8, k=k)
