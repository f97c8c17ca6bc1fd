"""Compiled, a recurrence is one operation of the graph for every length, and gives what it gives line by line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.nn.functional.legendre_memory import legendre_memory, legendre_tables
from formwright.nn.functional.linear_attention import causal_linear_attention
from formwright.nn.functional.selective_scan import selective_scan
from formwright.nn.functional.ssd import ssd
from tests.nn.functional.recurrences import assert_near, lengths_mask, outcome

Made = tuple[Callable[..., tuple[Tensor, Tensor]], list[Tensor]]

TABLES = legendre_tables(5, 20)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def made(name: str, time: int, batch: int = 2) -> Made:
    """A recurrence of its operands, and these."""
    torch.manual_seed(time)
    tokens = (batch, time, 2)
    q, k, v, state = (
        normal(*tokens, 3),
        F.normalize(normal(*tokens, 3), dim=-1),
        normal(*tokens, 4),
        normal(batch, 2, 3, 4),
    )
    mask = lengths_mask([time, max(1, time - 2)][:batch], time)
    if name == "delta_rule":
        operands = [q, k, v, normal(*tokens).sigmoid(), state]
        return lambda q, k, v, beta, state: delta_rule(q, k, v, beta, initial_state=state, mask=mask), operands
    if name == "gated_linear_attention":
        operands = [q, k, v, F.logsigmoid(normal(*tokens, 3)), state]
        return lambda q, k, v, g, state: gated_linear_attention(q, k, v, g, initial_state=state, mask=mask), operands
    if name == "linear_attention":
        operands = [q.exp(), k.exp(), v]
        return lambda q, k, v: causal_linear_attention(q, k, v, normalize=True, mask=mask), operands
    if name == "ssd":
        operands = [v, F.softplus(normal(*tokens)), -normal(2).exp(), normal(*tokens, 3), normal(*tokens, 3)]
        return lambda x, delta, a, b, c: ssd(x, delta, a, b, c, mask=mask), operands
    if name == "selective_scan":
        x, b, c = v[..., 0], q[:, :, 0], q[:, :, 1]
        operands = [x, F.softplus(normal(*tokens)), -normal(2, 3).exp(), b, c, normal(batch, 2, 3)]
        return lambda *given: selective_scan(*given[:5], initial_state=given[5], mask=mask), operands
    return lambda u: legendre_memory(u, TABLES, mask=mask), [v[..., 0]]


NAMES = ("delta_rule", "gated_linear_attention", "linear_attention", "ssd", "selective_scan", "legendre_memory")
each = pytest.mark.parametrize("name", NAMES)


@each
def test_one_graph_with_one_operation_for_all_lengths(name: str) -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")

    def graph(mask: Tensor, *operands: Tensor) -> tuple[Tensor, Tensor]:
        return made_of(mask, *operands)

    compiled = torch.compile(graph, backend=counter, fullgraph=True, dynamic=True)
    for time in (5, 33, 100, 2100):
        recurrence, operands = made(name, time)
        made_of = lambda mask, *operands, recurrence=recurrence: recurrence(*operands)  # noqa: E731
        reference = outcome(recurrence, operands)
        for ours, other in zip(outcome(lambda *given: compiled(given[0], *given), operands), reference, strict=True):
            assert_near(ours, other, 1e-9)
    assert counter.frame_count <= 2, "the first of four lengths may be taken for the only one, no later one"
