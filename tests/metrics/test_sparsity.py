"""Hidden values that are not zero are counted exactly."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.metrics.sparsity import activation_sparsity
from formwright.models import Model, create_model
from formwright.nn import part


def model_with(**options: object) -> Model:
    torch.manual_seed(0)
    mixer = part("mlp", hidden=64, activation="relu") if not options else part(**options)  # type: ignore[arg-type]
    return create_model(
        "decoder_tiny", dim=16, depth=2, heads=2, vocabulary=9, length=8, padding=8, channel_mixer=mixer
    ).eval()


def test_shares_are_those_of_the_hidden_values_of_real_tokens() -> None:
    model = model_with()
    ids = torch.tensor([[0, 1, 2, 3], [4, 5, 8, 8]])
    mlp = model.backbone.stages[0].blocks[0].branches[1].part
    with torch.no_grad():
        mlp.fc1.bias[:10] = -100
    seen = []
    handle = mlp.activation.register_forward_hook(lambda module, inputs, y: seen.append(y))
    first, second = activation_sparsity(model, [ids[:1], ids[1:]])
    handle.remove()
    tokens = torch.cat([seen[0][0], seen[1][0, :2]])
    shares = (tokens > 0).double().mean(1)
    assert (first.hidden, first.tokens, second.tokens) == (64, 6, 6)
    assert first.active == pytest.approx(shares.mean().item())
    assert first.quantiles[1] == pytest.approx(shares.quantile(0.5).item())
    assert first.never_active == int((tokens == 0).all(0).sum()) >= 10
    assert first.name.endswith("blocks.0.branches.1.part")


def test_half_of_the_values_are_zero_at_first() -> None:
    model = model_with(name="mlp", hidden=2048, activation="relu")
    ids = torch.randint(8, (16, 8), generator=torch.Generator().manual_seed(0))
    assert all(abs(layer.active - 0.5) < 0.02 for layer in activation_sparsity(model, [ids]))


def test_an_mlp_that_keeps_k_values_has_no_more() -> None:
    model = model_with(name="top_k_mlp", hidden=64, k=4)
    layers = activation_sparsity(model, [torch.arange(8)[None]])
    assert [layer.active for layer in layers] == [4 / 64] * 2


def test_what_gives_no_zeros_is_refused() -> None:
    with pytest.raises(UserError, match="GELU"):
        activation_sparsity(model_with(name="mlp"), [torch.zeros(1, 2, dtype=torch.long)])
    with pytest.raises(UserError, match="No batches"):
        activation_sparsity(model_with(), [])
