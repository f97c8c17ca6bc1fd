"""Gates are their formulas, start near the identity, and take the place of a branch's sum."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn import BlockSpec, BranchSpec, part
from formwright.nn.frame import Block, Branch
from formwright.nn.gates import GATES, build_gate
from tests.conformance.instances import randomise

DIM = 4


def x_and_y() -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, 2, 3, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, y


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def formula(name: str, gate: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    w = {key: parameter.T for key, parameter in gate.named_parameters() if key.endswith("weight")}
    w = {key.removesuffix(".weight"): matrix for key, matrix in w.items()}
    b = gate.bias
    if name == "input_gate":
        return sigmoid(x @ w["w"]) * x + y
    if name == "output_gate":
        return x + sigmoid(x @ w["w"] - b) * y
    if name == "highway_gate":
        s = sigmoid(x @ w["w"] + b)
        return s * x + (1 - s) * y
    if name == "sigmoid_tanh_gate":
        return x + sigmoid(y @ w["w"] - b) * torch.tanh(y @ w["u"])
    r = sigmoid(y @ w["w_r"] + x @ w["u_r"])
    z = sigmoid(y @ w["w_z"] + x @ w["u_z"] - b)
    return (1 - z) * x + z * torch.tanh(y @ w["w_g"] + (r * x) @ w["u_g"])


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_its_formula(name: str) -> None:
    gate = build_gate(part(name), DIM).double()
    randomise(gate)
    x, y = x_and_y()
    torch.testing.assert_close(gate(x, y), formula(name, gate, x, y), rtol=1e-12, atol=1e-12)
    gate(x, y).sum().backward()
    assert all(parameter.grad is not None for parameter in gate.parameters())
    assert set(gate.axes()) >= {key for key, _ in gate.named_parameters()}


@pytest.mark.parametrize("name", [name for name in GATES if name != "input_gate"])
def test_a_larger_bias_keeps_more_of_the_input(name: str) -> None:
    x, y = x_and_y()
    changes = []
    for bias in (0.0, 2.0, 4.0, 20.0):
        gate = build_gate(part(name, bias=bias), DIM).double()
        for matrix in gate.parameters():
            if matrix.ndim == 2:
                nn.init.eye_(matrix) if name == "sigmoid_tanh_gate" else nn.init.zeros_(matrix)
        changes.append(float((gate(x, y) - x).norm()))
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < 1e-4


def test_a_gate_joins_a_branch_instead_of_a_sum() -> None:
    block = Block(BlockSpec((BranchSpec(part("mlp"), norm=part("layer_norm"), gate=part("gru_gate")),)), DIM, (3,))
    block = block.double().eval()
    randomise(block)
    x, _ = x_and_y()
    branch = block.branches[0]
    expected = branch.gate(x, branch.part(branch.norm(x)))
    assert torch.equal(block(x)[0], expected)
    zeroed = copy.deepcopy(block)
    nn.init.constant_(zeroed.branches[0].gate.bias, 50.0)
    torch.testing.assert_close(zeroed(x)[0], x, rtol=1e-9, atol=1e-9)


def test_a_gate_and_a_scale_of_the_residual_are_too_much() -> None:
    with pytest.raises(UserError, match="not both"):
        Branch(BranchSpec(part("mlp"), gate=part("gru_gate"), residual_scale=1.0), DIM, (3,))


def test_an_unknown_gate_is_named() -> None:
    with pytest.raises(UserError, match="no gate named 'grugate'; did you mean gru_gate"):
        build_gate(part("grugate"), DIM)
