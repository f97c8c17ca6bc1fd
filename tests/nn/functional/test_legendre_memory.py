"""The chunked Legendre memory and its gradients against a loop over time, and what it remembers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.legendre_memory import legendre_memory, legendre_system, legendre_tables
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask

ORDER, WINDOW = 6, 20
TRANSITION, INPUT = legendre_system(ORDER, WINDOW)


def naive(u, state):
    """One step of the discrete system after the other."""
    outputs = []
    for t in range(u.shape[1]):
        state = state @ TRANSITION.T + u[:, t, :, None] * INPUT
        outputs.append(state)
    return torch.stack(outputs, dim=1), state


def chunked(u, state, chunk=8):
    return legendre_memory(u, legendre_tables(ORDER, WINDOW, chunk=chunk), initial_state=state)


def operands(batch: int = 2, time: int = 37, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time)
    shapes = ((batch, time, 3), (batch, 3, ORDER))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("time", [1, 2, 7, 8, 9, 48, 139])
def test_equals_the_loop(time: int, dtype: torch.dtype) -> None:
    assert_same(chunked, naive, operands(time=time, dtype=dtype))


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize("time", [63, 2100])
def test_equals_the_loop_in_chunks_of_any_size(chunk: int, time: int) -> None:
    given = operands(batch=1, time=time)
    for ours, expected in zip(chunked(*given, chunk=chunk), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_many_coefficients_stay_accurate_in_float32() -> None:
    """As many as LMUFormer has: the continuous system is far from well conditioned."""
    tables = legendre_tables(256, 128)
    u = torch.randn(1, 300, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_near(legendre_memory(u.float(), tables)[0], legendre_memory(u, tables)[0], 1e-4)


def test_bfloat16_is_accumulated_in_float32() -> None:
    given = operands(time=150, dtype=torch.bfloat16)
    memory, state = chunked(*given)
    expected = naive(*(operand.double() for operand in given))
    assert memory.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert_near(memory, expected[0], TOLERANCE[torch.bfloat16])
    assert_near(state, expected[1], TOLERANCE[torch.float32])


def test_padding_behind_the_last_token_leaves_the_state_as_it_was_there() -> None:
    u, state = operands(batch=3)
    lengths = [0, 20, 37]
    memory, after = legendre_memory(
        u, legendre_tables(ORDER, WINDOW), initial_state=state, mask=lengths_mask(lengths, 37)
    )
    assert_near(after[0], state[0], 1e-12)
    for row in (1, 2):
        expected = naive(u[row : row + 1, : lengths[row]], state[row : row + 1])
        assert_near(memory[row : row + 1, : lengths[row]], expected[0], 1e-9)
        assert_near(after[row : row + 1], expected[1], 1e-9)


def test_the_window_can_be_read_from_the_coefficients() -> None:
    """A polynomial of degree 5 is, over the latest window, what its Legendre coefficients say."""
    window, order = 400, 12
    time = torch.linspace(-2, 1, 3 * window, dtype=torch.float64)
    u = sum(c * time**power for power, c in enumerate([0.3, -1.0, 2.0, 0.5, -3.0, 1.5]))
    coefficients = legendre_memory(u[None, :, None], legendre_tables(order, window))[1][0, 0]
    delay = (window - 1 - np.arange(window) + 0.5) / window  # of each input, in windows, at the end
    polynomials = torch.from_numpy(np.polynomial.legendre.legvander(2 * delay - 1, order - 1))
    assert_near(polynomials @ coefficients, u[-window:], 2e-3)


def test_a_chunk_of_no_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        legendre_tables(ORDER, WINDOW, chunk=0)
