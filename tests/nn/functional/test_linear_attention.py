"""Linear attention, causal in chunks and over all tokens, against sums over pairs of tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.linear_attention import (
    causal_linear_attention,
    linear_attention,
    linear_attention_step,
)
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask


def naive(q, k, v, state, *, normalize: bool):
    """One token after the other; the last column of a normalised state is the sum of the keys."""
    outputs = []
    for t in range(q.shape[1]):
        values = torch.cat([v[:, t], torch.ones_like(v[:, t, :, :1])], dim=-1) if normalize else v[:, t]
        state = state + k[:, t, :, :, None] * values[:, :, None]
        y = (q[:, t, :, :, None] * state).sum(-2)
        outputs.append(y[..., :-1] / y[..., -1:] if normalize else y)
    return torch.stack(outputs, dim=1), state


def operands(
    batch: int = 2, time: int = 37, dtype: torch.dtype = torch.float64, *, normalize: bool = False
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time)
    heads, keys, values = 3, 5, 7

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k = normal(batch, time, heads, keys), normal(batch, time, heads, keys)
    state = normal(batch, heads, keys, values + normalize)
    if normalize:
        q, k, state = q.exp(), k.exp(), torch.cat([state[..., :-1], state[..., -1:].exp()], dim=-1)
    return [tensor.to(dtype) for tensor in (q, k, normal(batch, time, heads, values), state)]


def forms(normalize: bool, chunk: int = 16):
    def ours(q, k, v, state):
        return causal_linear_attention(q, k, v, initial_state=state, normalize=normalize, chunk=chunk)

    return ours, lambda *tensors: naive(*tensors, normalize=normalize)


both = pytest.mark.parametrize("normalize", [False, True])


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 48, 139])
def test_equals_the_loop(time: int, dtype: torch.dtype, normalize: bool) -> None:
    assert_same(*forms(normalize), operands(time=time, dtype=dtype, normalize=normalize))


@both
@pytest.mark.parametrize("chunk", [1, 5, 64, 1000])
@pytest.mark.parametrize("time", [63, 2100])
def test_equals_the_loop_in_chunks_of_any_size(chunk: int, time: int, normalize: bool) -> None:
    given = operands(batch=1, time=time, normalize=normalize)
    ours, expected = (form(*given) for form in forms(normalize, chunk))
    for mine, other in zip(ours, expected, strict=True):
        assert_near(mine, other, 1e-9)


@both
def test_bfloat16_is_accumulated_in_float32(normalize: bool) -> None:
    given = operands(time=150, dtype=torch.bfloat16, normalize=normalize)
    y, state = forms(normalize)[0](*given)
    expected = naive(*(operand.double() for operand in given), normalize=normalize)
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert_near(y, expected[0], TOLERANCE[torch.bfloat16])
    assert_near(state, expected[1], TOLERANCE[torch.float32])


@both
def test_masked_tokens_leave_the_state_unchanged(normalize: bool) -> None:
    *sequence, initial = operands(batch=3, normalize=normalize)
    mask = torch.rand(3, 37, generator=torch.Generator().manual_seed(1)) < 0.6
    y, state = causal_linear_attention(*sequence, initial_state=initial, mask=mask, normalize=normalize)
    for row in range(3):
        real = [operand[row : row + 1, mask[row]] for operand in sequence]
        expected = naive(*real, initial[row : row + 1], normalize=normalize)
        assert_near(y[row : row + 1, mask[row]], expected[0], 1e-9)
        assert_near(state[row : row + 1], expected[1], 1e-9)


@both
def test_a_masked_row_keeps_its_state_whatever_stands_there(normalize: bool) -> None:
    *sequence, initial = operands(normalize=normalize)
    sequence[2][0] = torch.nan
    mask = lengths_mask([0, 37], 37)
    state = causal_linear_attention(*sequence, initial_state=initial, mask=mask, normalize=normalize)[1]
    assert_near(state[0], initial[0], 1e-12)


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_equal_the_loop(dtype: torch.dtype, normalize: bool) -> None:
    *sequence, state = operands(dtype=dtype, normalize=normalize)
    expected = naive(*(operand.double() for operand in (*sequence, state)), normalize=normalize)
    outputs = []
    for tokens in zip(*(operand.unbind(1) for operand in sequence), strict=True):
        y, state = linear_attention_step(*tokens, state, normalize=normalize)
        outputs.append(y)
    assert_near(torch.stack(outputs, dim=1), expected[0], TOLERANCE[dtype])
    assert_near(state, expected[1], TOLERANCE[dtype])


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_order_it_is_the_sum_over_all_real_tokens(dtype: torch.dtype, normalize: bool) -> None:
    q, k, v, _ = operands(batch=3, dtype=dtype, normalize=normalize)
    mask = torch.rand(3, 37, generator=torch.Generator().manual_seed(1)) < 0.6
    weights = torch.einsum("bthc,bshc->bhts", q.double(), k.double()) * mask[:, None, None]
    if normalize:
        weights = weights / weights.sum(-1, keepdim=True)
    expected = torch.einsum("bhts,bshc->bthc", weights, v.double())
    ours = linear_attention(q, k, v, mask=mask, normalize=normalize)
    assert ours.dtype is dtype
    assert_near(ours, expected, TOLERANCE[dtype])


def test_a_chunk_of_no_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        causal_linear_attention(*operands()[:-1], chunk=0)
