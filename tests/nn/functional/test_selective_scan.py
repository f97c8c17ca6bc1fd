"""The chunked selective scan, its step and its gradients against a loop over time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional import selective_scan as module
from formwright.nn.functional.selective_scan import selective_scan, selective_scan_step
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask


def naive(x, delta, a, b, c, state):
    """The recurrence of the paper, one token after the other."""
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        state = torch.exp(step * a) * state + step * x[:, t, :, None] * b[:, t, None]
        outputs.append((state * c[:, t, None]).sum(-1))
    return torch.stack(outputs, dim=1), state


def scan(x, delta, a, b, c, state):
    return selective_scan(x, delta, a, b, c, initial_state=state)


def operands(
    batch: int = 2, time: int = 21, channels: int = 5, states: int = 4, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    delta, rates = F.softplus(normal(batch, time, channels) - 1), -torch.exp(normal(channels, states))
    inputs = [normal(batch, time, channels), delta, rates, normal(batch, time, states), normal(batch, time, states)]
    return [tensor.to(dtype) for tensor in (*inputs, normal(batch, channels, states))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("time", [1, 2, 7, 8, 9, 64, 137])
def test_equals_the_loop(time: int, dtype: torch.dtype) -> None:
    assert_same(scan, naive, operands(time=time, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_loop_where_samples_channels_and_tokens_are_cut(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_CHANNELS", 3)
    monkeypatch.setattr(module, "BLOCK_VALUES", 2 * 3 * 4 * 16)
    monkeypatch.setattr(module, "CHUNK", 4)
    assert_same(scan, naive, operands(batch=5, time=39, channels=7, dtype=dtype))


def test_strong_decay_neither_overflows_nor_loses_gradients() -> None:
    given = operands(time=40, dtype=torch.float32)
    given[2] = given[2] * 200
    assert_same(scan, naive, given)


def test_an_absent_state_is_zero() -> None:
    given = operands()
    given[-1] = torch.zeros_like(given[-1])
    y, state = selective_scan(*given[:-1])
    expected = naive(*given)
    assert_near(y, expected[0], 1e-9)
    assert_near(state, expected[1], 1e-9)


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
    mask = torch.rand(3, 21, generator=torch.Generator().manual_seed(1)) < 0.6
    y, state = selective_scan(*given[:-1], initial_state=given[-1], mask=mask)
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
    state = selective_scan(*given[:-1], initial_state=given[-1], mask=lengths_mask([0, 21], 21))[1]
    assert_near(state[0], given[-1][0], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_equal_the_loop(dtype: torch.dtype) -> None:
    x, delta, a, b, c, state = operands(dtype=dtype)
    expected = naive(*(operand.double() for operand in (x, delta, a, b, c, state)))
    outputs = []
    for t in range(x.shape[1]):
        y, state = selective_scan_step(x[:, t], delta[:, t], a, b[:, t], c[:, t], state)
        outputs.append(y)
    assert_near(torch.stack(outputs, dim=1), expected[0], TOLERANCE[dtype])
    assert_near(state, expected[1], TOLERANCE[dtype])


def test_the_compiled_form_equals_the_loop() -> None:
    given = operands(time=13)
    y, state = torch.compile(scan, backend="aot_eager", fullgraph=True)(*given)
    expected = naive(*given)
    assert_near(y, expected[0], 1e-9)
    assert_near(state, expected[1], 1e-9)
