"""GTrXL's identity path, its published sizes, and its parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from formwright.models import Model, create_model, empty_copy, model_specification
from formwright.nn import part


def build(name: str, **changes: Any) -> Model:
    options = {"dim": 16, "depth": 12, "heads": 2, "head_dim": 4, "memory": 8, "channels": 3, "length": 6, "actions": 4}
    torch.manual_seed(0)
    return create_model(name, **{**options, **changes}).double().eval()


def identity_error(model: Model) -> float:
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    entered, context = model.backbone.embed(x)
    left, _ = model.backbone.stages[0](entered, context)
    return float((left - entered).norm() / entered.norm())


@torch.no_grad()
def silence(model: Model) -> Model:
    """Every branch gives zero."""
    for module in model.modules():
        if type(module).__name__ in ("RelativeAttention", "MLP"):
            last = module.proj if hasattr(module, "proj") else module.fc2
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
    return model


def test_only_norms_before_the_branches_leave_an_identity_path() -> None:
    assert identity_error(silence(build("trxl_i_dmlab"))) == 0
    assert identity_error(silence(build("trxl_dmlab"))) > 0.1


def test_a_larger_bias_of_the_gate_starts_nearer_the_identity() -> None:
    errors = [identity_error(build("gtrxl_dmlab", gate=part("gru_gate", bias=bias))) for bias in (0.0, 2.0, 4.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.5


def test_gru_gates_add_six_matrices_and_a_bias_to_each_branch() -> None:
    sizes = {name: empty_copy(model_specification(name)).parameter_count() for name in ("gtrxl_dmlab", "trxl_i_dmlab")}
    assert sizes["gtrxl_dmlab"] - sizes["trxl_i_dmlab"] == 12 * 2 * (6 * 256**2 + 256)


@pytest.mark.parametrize("name", ["gtrxl_dmlab", "trxl_dmlab", "gtrxl_highway_dmlab"])
def test_memory_carries_over_segments(name: str) -> None:
    model = build(name, depth=2, length=12)
    x = torch.randn(2, 12, 3, dtype=torch.float64)
    state, pieces = model.init_state(2, 12), []
    with torch.no_grad():
        for segment in x.split(4, dim=1):
            scores, state = model.stream(segment, state)
            pieces.append(scores)
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(x), rtol=1e-9, atol=1e-9)
    memories = [tensor for key, tensor in state.items() if key.endswith("memory")]
    assert [memory.shape for memory in memories] == [(2, 8, 16)] * 2
