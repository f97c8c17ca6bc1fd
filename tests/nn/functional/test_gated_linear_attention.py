"""Chunked gated linear attention, its step and its gradients against a loop over time, for mild and strong decay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.functional.gated_linear_attention import gated_linear_attention, gated_linear_attention_step
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask


def naive(q, k, v, log_decay, state):
    """The recurrence of the paper, one token after the other."""
    outputs = []
    for t in range(q.shape[1]):
        state = log_decay[:, t].exp()[..., None] * state + k[:, t, :, :, None] * v[:, t, :, None]
        outputs.append((q[:, t, :, :, None] * state).sum(-2))
    return torch.stack(outputs, dim=1), state


def chunked(q, k, v, log_decay, state, chunk=16):
    return gated_linear_attention(q, k, v, log_decay, initial_state=state, chunk=chunk)


def operands(batch: int = 2, time: int = 37, dtype: torch.dtype = torch.float64, decay: float = 0.1) -> list[Tensor]:
    """``decay``: factor on the logarithms of the decays, whose mean is about -0.8."""
    generator = torch.Generator().manual_seed(time)
    heads, keys, values = 3, 5, 7

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k = normal(batch, time, heads, keys), normal(batch, time, heads, keys)
    log_decay = decay * F.logsigmoid(normal(batch, time, heads, keys))
    given = (q, k, normal(batch, time, heads, values), log_decay, normal(batch, heads, keys, values))
    return [tensor.to(dtype) for tensor in given]


#: Decays that a chunk can be divided by, decays that it cannot, and such that little is left after one token.
each_decay = pytest.mark.parametrize("decay", [0.1, 3.0, 60.0])


@each_decay
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 48, 139])
def test_equals_the_loop(time: int, dtype: torch.dtype, decay: float) -> None:
    assert_same(chunked, naive, operands(time=time, dtype=dtype, decay=decay))


@each_decay
@pytest.mark.parametrize("chunk", [1, 5, 32, 64, 1000])
def test_equals_the_loop_in_chunks_of_any_size(chunk: int, decay: float) -> None:
    given = operands(batch=1, time=139, decay=decay)
    for ours, expected in zip(chunked(*given, chunk=chunk), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


@each_decay
def test_equals_the_loop_over_several_segments(decay: float) -> None:
    given = operands(batch=1, time=2100, decay=decay, dtype=torch.float32)
    for ours, expected in zip(chunked(*given, chunk=64), naive(*(x.double() for x in given)), strict=True):
        assert_near(ours, expected, 1e-4)


def test_what_is_forgotten_at_once_leaves_no_trace() -> None:
    given = operands(batch=1, time=40)
    given[3][:, 20] = -torch.inf
    y, state = chunked(*given)
    expected = naive(*(operand[:, 20:] for operand in given[:-1]), torch.zeros_like(given[-1]))
    assert_near(y[:, 20:], expected[0], 1e-9)
    assert_near(state, expected[1], 1e-9)


def test_decays_at_the_border_of_what_is_divided_by() -> None:
    """The sum over a chunk of 16 is -30: inverses of 1e13 stand beside ones, in float32."""
    given = operands(time=64, dtype=torch.float32)
    given[3] = torch.full_like(given[3], -29.99 / 16)
    assert_same(chunked, naive, given)


def test_bfloat16_is_accumulated_in_float32() -> None:
    given = operands(time=150, dtype=torch.bfloat16)
    y, state = chunked(*given)
    expected = naive(*(operand.double() for operand in given))
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert_near(y, expected[0], TOLERANCE[torch.bfloat16])
    assert_near(state, expected[1], TOLERANCE[torch.float32])


@each_decay
def test_masked_tokens_leave_the_state_unchanged(decay: float) -> None:
    given = operands(batch=3, decay=decay)
    mask = torch.rand(3, 37, generator=torch.Generator().manual_seed(1)) < 0.6
    y, state = gated_linear_attention(*given[:-1], initial_state=given[-1], mask=mask, chunk=16)
    for row in range(3):
        real = [operand[row : row + 1, mask[row]] for operand in given[:-1]]
        expected = naive(*real, given[-1][row : row + 1])
        assert_near(y[row : row + 1, mask[row]], expected[0], 1e-9)
        assert_near(state[row : row + 1], expected[1], 1e-9)


def test_a_masked_row_keeps_its_state_whatever_stands_there() -> None:
    given = operands()
    given[2][0] = torch.nan
    state = gated_linear_attention(*given[:-1], initial_state=given[-1], mask=lengths_mask([0, 37], 37))[1]
    assert_near(state[0], given[-1][0], 1e-12)


@each_decay
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_equal_the_loop(dtype: torch.dtype, decay: float) -> None:
    *sequence, state = operands(dtype=dtype, decay=decay)
    expected = naive(*(operand.double() for operand in (*sequence, state)))
    outputs = []
    for tokens in zip(*(operand.unbind(1) for operand in sequence), strict=True):
        y, state = gated_linear_attention_step(*tokens, state)
        outputs.append(y)
    assert_near(torch.stack(outputs, dim=1), expected[0], TOLERANCE[dtype])
    assert_near(state, expected[1], TOLERANCE[dtype])


def test_an_absent_state_is_zero() -> None:
    given = operands()
    given[-1] = torch.zeros_like(given[-1])
    for ours, expected in zip(gated_linear_attention(*given[:-1]), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_a_chunk_of_no_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        gated_linear_attention(*operands()[:-1], chunk=0)
