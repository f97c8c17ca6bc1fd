"""The short causal convolution and its streaming state against a loop over time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.short_convolution import short_convolution
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask


def naive(x: Tensor, weight: Tensor, bias: Tensor | None, window: Tensor) -> tuple[Tensor, Tensor]:
    """One token after the other; ``window`` holds the inputs before it."""
    outputs = []
    for t in range(x.shape[1]):
        window = torch.cat([window, x[:, t : t + 1]], dim=1)
        y = sum(window[:, k] * weight[:, k] for k in range(weight.shape[1]))
        outputs.append(y if bias is None else y + bias)
        window = window[:, 1:]
    return torch.stack(outputs, dim=1), window


def operands(
    time: int, taps: int, dtype: torch.dtype = torch.float64, batch: int = 2, channels: int = 5
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time + taps)
    shapes = [(batch, time, channels), (channels, taps), (channels,), (batch, taps - 1, channels)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("time", "taps"), [(1, 4), (2, 4), (3, 4), (37, 4), (9, 1), (8, 7), (33, 2)])
def test_equals_the_loop(time: int, taps: int, dtype: torch.dtype) -> None:
    x, weight, bias, state = operands(time, taps, dtype)
    for b, initial in ((bias, state), (None, None)):
        y, final = short_convolution(x, weight, b, initial_state=initial)
        start = torch.zeros_like(state) if initial is None else initial
        expected = naive(x.double(), weight.double(), None if b is None else b.double(), start.double())
        assert_near(y, expected[0], TOLERANCE[dtype])
        assert_near(final, expected[1], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("time", [1, 3, 18])
def test_gradients_equal_those_of_the_loop(time: int, dtype: torch.dtype) -> None:
    def ours(x, weight, bias, state):
        return short_convolution(x, weight, bias, initial_state=state)

    assert_same(ours, naive, operands(time, 4, dtype))


def test_second_derivatives() -> None:
    x, weight, bias, state = (tensor.requires_grad_() for tensor in operands(6, 3, batch=1, channels=2))
    assert torch.autograd.gradgradcheck(
        lambda *given: short_convolution(*given[:3], initial_state=given[3])[0], (x, weight, bias, state)
    )


def test_padding_on_the_right_leaves_the_state_unchanged() -> None:
    x, weight, bias, state = operands(11, 4, batch=4)
    lengths = [0, 2, 7, 11]
    mask = lengths_mask(lengths, 11)
    y, final = short_convolution(x, weight, bias, initial_state=state, mask=mask)
    for row, length in enumerate(lengths):
        part = slice(row, row + 1)
        if length:
            alone, after = short_convolution(x[part, :length], weight, bias, initial_state=state[part])
            assert_near(y[part, :length], alone, 1e-12)
        else:
            after = state[part]
        assert_near(final[part], after, 1e-12)


def test_masked_tokens_count_as_zero() -> None:
    x, weight, bias, _ = operands(12, 4)
    mask = torch.arange(12) % 3 != 1
    mask = mask.expand(2, -1)
    y, final = short_convolution(x, weight, bias, mask=mask)
    expected, state = short_convolution(x * mask[..., None], weight, bias)
    assert torch.equal(y, expected)
    assert torch.equal(final, state)


@pytest.mark.parametrize("sizes", [(1,) * 10, (4, 1, 5), (9, 1)])
def test_chunks_equal_the_whole(sizes: tuple[int, ...]) -> None:
    x, weight, bias, state = operands(10, 4)
    whole, final = short_convolution(x, weight, bias, initial_state=state)
    pieces = []
    for piece in x.split(list(sizes), dim=1):
        y, state = short_convolution(piece, weight, bias, initial_state=state)
        pieces.append(y)
    assert_near(torch.cat(pieces, dim=1), whole, 1e-12)
    assert torch.equal(state, final)


def test_trained_in_bfloat16_by_autocast():
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((2, 9, 6), (6, 4), (6,)))
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, _ = short_convolution(x, weight, bias)
        gradients.append(torch.autograd.grad(y.float().square().sum(), (x, weight, bias)))
    for plain, mixed in zip(*gradients, strict=True):
        assert mixed.dtype is torch.float32
        assert (mixed - plain).abs().mean() < 0.02 * plain.abs().mean()
