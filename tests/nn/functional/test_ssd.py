"""The chunked state-space duality, its step and its gradients against a loop over time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.functional.ssd import segment_sums, ssd, ssd_step
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask, outcome


def naive(x, delta, a, b, c, state):
    """The recurrence of the paper, one token after the other."""
    repeats = x.shape[2] // b.shape[2]
    b, c = b.repeat_interleave(repeats, dim=2), c.repeat_interleave(repeats, dim=2)
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(delta[:, t] * a)[..., None, None]
        state = decay * state + (delta[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None]
        outputs.append((state * c[:, t, :, None]).sum(-1))
    return torch.stack(outputs, dim=1), state


def scan(x, delta, a, b, c, state, chunk=16):
    return ssd(x, delta, a, b, c, initial_state=state, chunk=chunk)


def operands(
    batch: int = 2, time: int = 37, heads: int = 4, groups: int = 2, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time + groups)
    channels, states = 3, 5

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, delta, rates = normal(batch, time, heads, channels), F.softplus(normal(batch, time, heads)), -normal(heads).exp()
    b, c = normal(batch, time, groups, states), normal(batch, time, groups, states)
    return [tensor.to(dtype) for tensor in (x, delta, rates, b, c, normal(batch, heads, channels, states))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 48, 139])
def test_equals_the_loop(time: int, groups: int, dtype: torch.dtype) -> None:
    assert_same(scan, naive, operands(time=time, groups=groups, dtype=dtype))


@pytest.mark.parametrize("chunk", [1, 5, 64, 1000])
@pytest.mark.parametrize("time", [63, 300])
def test_equals_the_loop_in_chunks_of_any_size(chunk: int, time: int) -> None:
    given = operands(batch=1, time=time)
    for ours, expected in zip(scan(*given, chunk=chunk), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_strong_decay_neither_overflows_nor_loses_gradients() -> None:
    given = operands(time=40, dtype=torch.float32)
    given[2] = given[2] * 10
    assert_same(scan, naive, given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reset", [-160.0, -1600.0, -16000.0])
def test_resets_among_small_decays_take_no_digits_from_these(reset: float, dtype: torch.dtype) -> None:
    given = operands(time=300)
    generator = torch.Generator().manual_seed(1)
    logs = -0.01 - 0.05 * torch.rand(2, 300, 4, generator=generator, dtype=torch.float64)
    logs[torch.rand(logs.shape, generator=generator) < 0.03] = reset
    given[0] = given[0] / logs.abs().unsqueeze(-1)  # as much is written at a reset as elsewhere
    given[1], given[2] = -logs, -torch.ones(4, dtype=torch.float64)
    given = [operand.to(dtype) for operand in given]
    reference = outcome(naive, [operand.double() for operand in given])
    for ours, expected in zip(outcome(scan, given), reference, strict=True):
        assert_near(ours, expected, {torch.float64: 1e-13, torch.float32: 5e-6}[dtype])


def test_minus_infinity_forgets_everything() -> None:
    given = operands(time=40)
    given[0][:, 20], given[1][:, 20] = 0, 1e300
    for ours, expected in zip(scan(*given, chunk=64), naive(*given), strict=True):
        assert_near(ours, expected, 1e-12)


@pytest.mark.parametrize("tokens", [1, 8, 9, 63, 64, 130])
def test_sums_of_segments(tokens: int) -> None:
    logs = -torch.rand(3, 2, tokens, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = segment_sums(logs)
    assert sums.shape == (3, 2, tokens, tokens)
    assert torch.isneginf(sums[..., torch.ones(tokens, tokens).triu(1).bool()]).all()
    for t in range(tokens):
        for s in range(t + 1):
            torch.testing.assert_close(sums[..., t, s], logs[..., s + 1 : t + 1].sum(-1), rtol=1e-12, atol=1e-12)


def test_an_absent_state_is_zero() -> None:
    given = operands()
    given[-1] = torch.zeros_like(given[-1])
    for ours, expected in zip(ssd(*given[:-1]), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_bfloat16_is_accumulated_in_float32() -> None:
    given = operands(time=150, dtype=torch.bfloat16)
    y, state = scan(*given)
    expected = naive(*(operand.double() for operand in given))
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert_near(y, expected[0], TOLERANCE[torch.bfloat16])
    assert_near(state, expected[1], TOLERANCE[torch.float32])


def test_masked_tokens_leave_the_state_unchanged() -> None:
    given = operands(batch=3)
    mask = torch.rand(3, 37, generator=torch.Generator().manual_seed(1)) < 0.6
    y, state = ssd(*given[:-1], initial_state=given[-1], mask=mask, chunk=16)
    for row in range(3):
        real = [operand[row : row + 1] for operand in given]
        for index in (0, 1, 3, 4):
            real[index] = real[index][:, mask[row]]
        real[2] = given[2]
        expected = naive(*real)
        assert_near(y[row : row + 1, mask[row]], expected[0], 1e-9)
        assert_near(state[row : row + 1], expected[1], 1e-9)


def test_a_masked_row_keeps_its_state() -> None:
    given = operands()
    state = ssd(*given[:-1], initial_state=given[-1], mask=lengths_mask([0, 37], 37))[1]
    assert_near(state[0], given[-1][0], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("groups", [1, 2])
def test_steps_equal_the_loop(groups: int, dtype: torch.dtype) -> None:
    x, delta, a, b, c, state = operands(groups=groups, dtype=dtype)
    expected = naive(*(operand.double() for operand in (x, delta, a, b, c, state)))
    outputs = []
    for t in range(x.shape[1]):
        y, state = ssd_step(x[:, t], delta[:, t], a, b[:, t], c[:, t], state)
        outputs.append(y)
    assert_near(torch.stack(outputs, dim=1), expected[0], TOLERANCE[dtype])
    assert_near(state, expected[1], TOLERANCE[dtype])


def test_a_chunk_of_no_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        ssd(*operands()[:-1], chunk=0)


def test_groups_that_do_not_divide_the_heads_are_refused() -> None:
    with pytest.raises(UserError, match="divide"):
        ssd(*operands(heads=3, groups=2)[:-1])
