from __future__ import annotations

import pytest
import torch

from formwright.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16), (8, 300)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * 37
    result = orthogonalize(matrix, rounds=6)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.5
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    overlap = (u.T @ result @ v.T).diagonal()
    assert overlap.min() > 0.4


def test_a_matrix_of_zeros_stays_finite():
    assert orthogonalize(torch.zeros(8, 8), rounds=4).isfinite().all()


@pytest.mark.parametrize(("shape", "scale"), [((8, 32), 1.0), ((32, 8), 2.0), ((8, 2, 4, 4), 1.0)])
def test_a_step_has_the_length_of_the_formula(shape, scale):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape))
    before = weight.detach().clone()
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.randn(shape) * 1e3
    optimizer.step()
    update = (before * (1 - 0.1 * 0.5) - weight.detach()).flatten(1) / (0.1 * scale)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.3
    assert values.max() < 1.7


def test_it_descends_on_a_matrix_problem():
    torch.manual_seed(0)
    target, weight = torch.randn(12, 20), torch.nn.Parameter(torch.zeros(12, 20))
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_parameters_without_gradient_are_left_alone():
    weight = torch.nn.Parameter(torch.ones(8, 8))
    Muon([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight, torch.ones(8, 8))


def test_kernels_that_are_normed_turn_and_do_not_grow():
    torch.manual_seed(0)
    kernel, matrix = torch.nn.Parameter(7 * torch.randn(8, 4, 3, 3)), torch.nn.Parameter(torch.randn(8, 12))
    before, untouched = kernel.detach().clone(), matrix.detach().clone()
    optimizer = Muon([kernel, matrix], lr=0.1, momentum=0.6, normed_kernels=True)
    kernel.grad, matrix.grad = torch.randn_like(kernel), torch.zeros_like(matrix)
    optimizer.step()
    turned = kernel.detach() - before * 8**0.5 / before.norm()
    values = torch.linalg.svdvals(turned.flatten(1)) / 0.1
    assert values.min() > 0.3
    assert values.max() < 1.7
    torch.testing.assert_close(matrix.detach(), untouched)
    for _ in range(20):
        kernel.grad = torch.randn_like(kernel)
        optimizer.step()
    assert kernel.norm() < 1.3 * 8**0.5


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_momentum_keeps_what_gradients_said_before(momentum):
    first = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    second = torch.eye(8) - first
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=1.0, momentum=momentum)
    for gradient in (first, second):
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
    kept = ((before - weight.detach()) * first).sum()
    assert kept > 1 if momentum else kept == 0
