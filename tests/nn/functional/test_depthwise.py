"""Depthwise convolutions and their gradients against PyTorch's plain ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from formwright.nn.convolution import ConvNorm, DepthwiseConv1d, DepthwiseConv2d, depthwise_layer
from formwright.nn.functional import depthwise
from formwright.nn.functional.depthwise import depthwise_convolution


def problem(grid, kernel, dtype=torch.float64, batch=3, channels=5):
    torch.manual_seed(0)
    x = torch.randn(batch, *grid, channels, dtype=dtype).movedim(-1, 1)
    weight = torch.randn(channels, 1, *[kernel] * len(grid), dtype=dtype)
    bias = torch.randn(channels, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (x, weight, bias)]


def plain(x, weight, bias, stride=1):
    convolution = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[weight.ndim - 2]
    return convolution(x, weight, bias, stride, weight.shape[-1] // 2, 1, weight.shape[0])


def result_and_gradients(convolution, tensors, stride):
    y = convolution(*tensors, stride)
    upstream = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).bfloat16()
    return [y, *torch.autograd.grad(y, tensors, upstream.to(y.dtype))]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 11, 13])
@pytest.mark.parametrize("grid", [(13,), (1,), (8, 8), (9, 6), (1, 7), (5, 1), (4, 3, 5)])
def test_values_and_gradients_are_the_plain_ones(grid, kernel, stride):
    tensors = problem(grid, kernel)
    given = result_and_gradients(depthwise_convolution, tensors, stride)
    expected = result_and_gradients(plain, tensors, stride)
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_chunks_of_samples_add_up(monkeypatch):
    tensors = problem((6, 7), 7, batch=5)
    monkeypatch.setattr(depthwise, "CHUNK_BYTES", 2 * 6 * 7 * 5 * 8)
    given = result_and_gradients(depthwise_convolution, tensors, 1)
    for a, b in zip(given, result_and_gradients(plain, tensors, 1), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("grid", [(40,), (14, 17)])
def test_short_numbers_lose_no_more_than_they_must(grid, dtype, tolerance):
    tensors = problem(grid, 7, dtype, batch=8, channels=16)
    given = result_and_gradients(depthwise_convolution, tensors, 1)
    expected = result_and_gradients(plain, [t.detach().double().requires_grad_() for t in tensors], 1)
    for a, b in zip(given, expected, strict=True):
        assert a.dtype is dtype
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()


def test_any_memory_format_will_do():
    x, weight, bias = problem((6, 7), 5)
    other = x.detach().contiguous().requires_grad_()
    for a, b in zip(
        result_and_gradients(depthwise_convolution, [x, weight, bias], 1),
        result_and_gradients(depthwise_convolution, [other, weight, bias], 1),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("grid", [(6,), (4, 5)])
def test_second_derivatives(grid):
    x, weight, bias = problem(grid, 5, batch=2, channels=2)
    assert torch.autograd.gradgradcheck(lambda *tensors: depthwise_convolution(*tensors, 1), (x, weight, bias))


def test_gradients_of_each_sample_by_vmap():
    x, weight, bias = (tensor.detach() for tensor in problem((6, 7), 5, batch=4))

    def loss(w, sample):
        return depthwise_convolution(sample.unsqueeze(0), w, bias, 1).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
    whole = torch.func.grad(lambda w: depthwise_convolution(x, w, bias, 1).square().sum())(weight)
    torch.testing.assert_close(each.sum(0), whole)


def test_only_what_needs_a_gradient_gets_one():
    x, weight, _ = problem((6, 7), 7)
    y = depthwise_convolution(x.detach(), weight, None, 1)
    y.sum().backward()
    assert weight.grad is not None
    x.requires_grad_()
    depthwise_convolution(x, weight.detach(), None, 1).sum().backward()
    assert x.grad is not None


def test_autocast_convolves_in_the_short_type():
    x, weight, bias = problem((6, 7), 7, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_convolution(x, weight, bias, 1)
        expected = plain(x, weight, bias)
    assert y.dtype is expected.dtype is torch.bfloat16
    torch.testing.assert_close(y, expected)
    y.float().sum().backward()
    assert weight.grad.dtype is torch.float32


def test_an_exported_layer_is_one_plain_convolution():
    for layer, shape in ((DepthwiseConv1d, (2, 4, 9)), (DepthwiseConv2d, (2, 4, 9, 9))):
        module = layer(4, 4, 7, 1, 3, groups=4).train()
        x = torch.randn(shape)
        program = torch.export.export(module, (x,))
        calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
        assert len(calls) == 1
        assert "conv" in str(calls[0])
        torch.testing.assert_close(program.module()(x), module(x))


def test_wide_kernels_take_the_fast_way_and_layers_use_it():
    x = torch.randn(2, 8, 9, 9)
    assert "FastBackward" in type(depthwise_layer(8, 5)(x).grad_fn).__name__
    assert "FastBackward" in type(ConvNorm(8, 8, 7, groups=8).conv(x).grad_fn).__name__
    assert "FastBackward" not in type(depthwise_layer(8, 3)(x).grad_fn).__name__
