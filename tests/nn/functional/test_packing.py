"""Where sequences begin, and sequences of packed rows as rows of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.nn.functional.legendre_memory import legendre_memory, legendre_tables
from formwright.nn.functional.linear_attention import causal_linear_attention
from formwright.nn.functional.packing import Sequences, places_of, starts_of
from formwright.nn.functional.selective_scan import selective_scan
from formwright.nn.functional.short_convolution import short_convolution
from formwright.nn.functional.ssd import ssd

SEGMENTS = torch.tensor([[4, 4, 4, 0, 7, 7], [1, 1, 1, 1, 1, 1]])


def test_starts_and_places() -> None:
    starts = starts_of(SEGMENTS)
    assert starts.nonzero().tolist() == [[0, 3], [0, 4]]
    assert places_of(starts).tolist() == [[0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5]]


def test_sequences_of_about_the_same_length_are_computed_together() -> None:
    lengths = [1, 2, 3, 4, 5, 8, 9, 16, 17]
    sequences = Sequences(starts_of(torch.repeat_interleave(torch.arange(9), torch.tensor(lengths))[None]))
    shapes = [tuple(rows.places.shape) for rows in sequences.groups]
    assert shapes == [(1, 1), (1, 2), (2, 4), (2, 8), (2, 16), (1, 17)]
    assert sum(rows * longest for rows, longest in shapes) <= 2 * sum(lengths)


def test_every_token_comes_back_to_its_place() -> None:
    x = torch.randn(2, 6, 3)
    seen: list[tuple[tuple[int, ...], Tensor | None]] = []

    def double(operands: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
        seen.append((tuple(operands[0].shape), mask))
        return 2 * operands[0]

    sequences = Sequences(starts_of(SEGMENTS))
    assert torch.equal(sequences.apply(double, (x,), None), 2 * x)
    assert [shape for shape, _ in seen] == [(1, 1, 3), (1, 2, 3), (1, 3, 3), (1, 6, 3)]
    assert all(mask is None for _, mask in seen), "rows that nothing fills up need no mask"


def test_where_sequences_begin_must_be_known() -> None:
    with pytest.raises(UserError, match="give it each sequence as a row"):
        torch.vmap(lambda starts: Sequences(starts).home)(starts_of(SEGMENTS)[None])
    with pytest.raises(UserError, match="give it each sequence as a row"):
        Sequences(starts_of(SEGMENTS).to("meta"))


def recurrences() -> dict[str, tuple[Callable[..., tuple[Tensor, Tensor]], list[Tensor], Tensor]]:
    """Each with its sequences ``(2, 150, ...)``, in float64, and a state to begin with."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    q, k, v = normal(150, 2, 4), F.normalize(normal(150, 2, 4), dim=-1), normal(150, 2, 3)
    strong = torch.where(normal(150, 2, 4) > 1.5, -300.0, -0.1)
    x, delta, rates = normal(150, 6), F.softplus(normal(150, 6)), -normal(6, 3)[0].exp()
    b, c = normal(150, 3), normal(150, 3)
    tables, weight = legendre_tables(5, 9), normal(6, 4)[0]
    heads = (x.unflatten(2, (2, 3)), delta[..., :2], b.unsqueeze(2), c.unsqueeze(2))
    return {
        "delta_rule": (delta_rule, [q, k, v, q[..., 0].sigmoid()], normal(2, 4, 3)),
        "gla_mild": (gated_linear_attention, [q, k, v, -0.02 * q.sigmoid()], normal(2, 4, 3)),
        "gla_strong": (gated_linear_attention, [q, k, v, strong], normal(2, 4, 3)),
        "linear": (causal_linear_attention, [q, k, v], normal(2, 4, 3)),
        "legendre": (lambda u, **o: legendre_memory(u, tables, **o), [v[..., 0]], normal(2, 5)),
        "scan": (lambda x, d, b, c, **o: selective_scan(x, d, rates, b, c, **o), [x, delta, b, c], normal(6, 3)),
        "ssd": (lambda x, d, b, c, **o: ssd(x, d, rates[:2, 0], b, c, **o), list(heads), normal(2, 3, 3)),
        "convolution": (lambda x, **o: short_convolution(x, weight, **o), [x], normal(3, 6)),
    }


each_recurrence = pytest.mark.parametrize("name", recurrences())
#: In both rows: the first token, tokens in a row, the last one, and edges of chunks of 16, 32, 64 and 8.
STARTS = torch.zeros(2, 150, dtype=torch.bool)
STARTS[0, [0, 1, 2, 31, 32, 64, 128, 149]] = True
STARTS[1, [17, 48, 96, 97]] = True


@each_recurrence
@pytest.mark.parametrize("forward_only", [False, True])
def test_a_recurrence_forgets_where_a_sequence_begins(name: str, forward_only: bool) -> None:
    """Also when it goes on from a state: the first sequence of a row sees it, unless it begins with the row."""
    recurrence, operands, state = recurrences()[name]
    gradients = []
    for together in (True, False):
        leaves = [operand.clone().requires_grad_(not forward_only) for operand in (*operands, state)]
        with torch.set_grad_enabled(not forward_only):
            if together:
                y, last = recurrence(*leaves[:-1], initial_state=leaves[-1], starts=STARTS)
            else:
                y, last = one_by_one(recurrence, leaves[:-1], leaves[-1])
            loss = y.sin().sum() + last.cos().sum()
        found = [] if forward_only else torch.autograd.grad(loss, leaves, materialize_grads=True)
        gradients.append([y, last, *found])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def one_by_one(
    recurrence: Callable[..., tuple[Tensor, Tensor]], operands: list[Tensor], state: Tensor
) -> tuple[Tensor, Tensor]:
    outputs, states = [], []
    for row in range(2):
        bounds = [0, *(t for t in STARTS[row].nonzero().flatten().tolist() if t), 150]
        before = state[row : row + 1] * (0 if STARTS[row, 0] else 1)
        pieces = []
        for first, last in itertools.pairwise(bounds):
            y, before = recurrence(*(x[row : row + 1, first:last] for x in operands), initial_state=before)
            pieces.append(y)
            final, before = before, torch.zeros_like(before)
        outputs.append(torch.cat(pieces, dim=1))
        states.append(final)
    return torch.cat(outputs), torch.cat(states)


@each_recurrence
def test_a_single_token_that_begins_a_sequence(name: str) -> None:
    recurrence, operands, state = recurrences()[name]
    first = [x[:, :1] for x in operands]
    start = torch.tensor([[True], [False]])
    y, last = recurrence(*first, initial_state=state, starts=start)
    kept, forgotten = (recurrence(*first, initial_state=factor * state) for factor in (1, 0))
    for ours, old, new in zip((y, last), kept, forgotten, strict=True):
        torch.testing.assert_close(ours, torch.stack([new[0], old[1]]), rtol=1e-10, atol=1e-10)


@each_recurrence
def test_nothing_is_left_of_what_came_before(name: str) -> None:
    """Whatever it was: values of 1e150 leave no trace."""
    recurrence, operands, state = recurrences()[name]
    starts = torch.zeros(2, 150, dtype=torch.bool)
    starts[:, 70] = True
    expected = recurrence(*operands, initial_state=state, starts=starts)
    y, last = recurrence(*operands, initial_state=1e150 * state, starts=starts)
    assert torch.equal(y[:, 70:], expected[0][:, 70:])
    assert torch.equal(last, expected[1])


@pytest.mark.parametrize("name", ["delta_rule", "gla_mild", "linear", "legendre", "scan", "ssd"])
def test_a_long_row_and_one_that_is_compiled(name: str) -> None:
    recurrence, operands, _ = recurrences()[name]
    long = [torch.cat([x] * 15, dim=1) for x in operands]  # longer than what is computed at once
    expected = recurrence(*operands, starts=STARTS)[0]
    y = recurrence(*long, starts=torch.cat([STARTS] * 15, dim=1))[0]
    for first in (0, 2100):  # the first row begins with a sequence of its own each time
        torch.testing.assert_close(y[0, first : first + 150], expected[0], rtol=1e-10, atol=1e-10)
    torch.compiler.reset()
    leaves = [x.clone().requires_grad_() for x in operands]
    compiled = torch.compile(lambda *x: recurrence(*x, starts=STARTS), backend="aot_eager")
    results = []
    for function in (compiled, lambda *x: recurrence(*x, starts=STARTS)):
        y = function(*leaves)[0]
        results.append([y, *torch.autograd.grad(y.sin().sum(), leaves, materialize_grads=True)])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_second_derivatives_of_the_scan_know_where_sequences_begin() -> None:
    recurrence, operands, _ = recurrences()["scan"]
    x, *others = (operand[:, 60:68] for operand in operands)
    starts = STARTS[:, 60:68]
    leaf = x.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: recurrence(x, *others, starts=starts)[0], leaf)
    (first,) = torch.autograd.grad(recurrence(leaf, *others, starts=starts)[0].sin().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first[0, :4].sum(), leaf)
    assert not second[0, 4:].any(), "nothing of the sequence that begins there"
    assert second[0, :4].any()
