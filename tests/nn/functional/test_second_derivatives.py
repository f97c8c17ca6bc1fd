"""Gradients of gradients, which faster backward passes must not leave out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.depthwise import depthwise_convolution
from formwright.nn.functional.exponential_attention import causal_exponential_attention, exponential_attention
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.nn.functional.linear_attention import causal_linear_attention
from formwright.nn.functional.selective_scan import selective_scan
from formwright.nn.functional.short_convolution import convolve
from formwright.nn.functional.ssd import ssd
from tests.nn.functional import test_selective_scan
from tests.nn.functional.naive import normal

SEQUENCE = (1, 9, 1, 2)

FUNCTIONS: dict[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], tuple[tuple[int, ...], ...]]] = {
    "selective_scan": (
        lambda x, d, a, b, c, s: selective_scan(x, F.softplus(d), -a.exp(), b, c, initial_state=s),
        ((1, 9, 2), (1, 9, 2), (2, 2), (1, 9, 2), (1, 9, 2), (1, 2, 2)),
    ),
    "ssd": (
        lambda x, d, a, b, c: ssd(x, F.softplus(d), -a.exp(), b, c),
        ((1, 17, 2, 2), (1, 17, 2), (2,), (1, 17, 1, 2), (1, 17, 1, 2)),
    ),
    "delta_rule": (lambda q, k, v, b: delta_rule(q, k, v, b.sigmoid()), (*[SEQUENCE] * 3, SEQUENCE[:3])),
    "gla": (lambda q, k, v, g: gated_linear_attention(q, k, v, F.logsigmoid(g)), (SEQUENCE,) * 4),
    "gla_strong": (lambda q, k, v, g: gated_linear_attention(q, k, v, 30 * F.logsigmoid(g)), (SEQUENCE,) * 4),
    "linear": (causal_linear_attention, (SEQUENCE,) * 3),
    "exponential": (exponential_attention, (SEQUENCE,) * 3),
    "exponential_causal": (lambda q, k, v: causal_exponential_attention(30 * q, 30 * k, v)[0], (SEQUENCE,) * 3),
    "short_convolution": (convolve, ((1, 9, 2), (2, 3), (2,))),
    "depthwise": (lambda x, w, b: depthwise_convolution(x, w, b, 1), ((1, 2, 5, 5), (2, 1, 5, 5), (2,))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives_are_those_of_differences(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    given = [normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    assert torch.autograd.gradgradcheck(function, given)


def test_the_scan_is_differentiated_twice_where_the_loss_is_linear_in_it() -> None:
    """The gradient that comes to it then needs none itself, and the graph must be made all the same."""

    def second(scan: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        given = [operand.requires_grad_() for operand in test_selective_scan.operands()]
        y, state = scan(*given)
        first = torch.autograd.grad(y.sum() + state.sum(), given, create_graph=True)
        return torch.autograd.grad(sum(gradient.square().sum() for gradient in first), given)

    for ours, expected in zip(second(test_selective_scan.scan), second(test_selective_scan.naive), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
