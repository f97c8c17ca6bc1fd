"""Convolutions against PyTorch's plain ones, above all the strided ones that have a form of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from formwright.measurement.macs import count_macs
from formwright.nn.convolution import CONVOLUTIONS, ConvNorm, depthwise_layer
from formwright.nn.functional.convolution import convolution, subsample

PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
GRIDS = [(1,), (2,), (13,), (1, 1), (8, 8), (7, 10), (5, 1), (4, 3, 5), (2, 7, 6)]


def problem(
    grid: tuple[int, ...], kernel: int, *, batch: int = 3, groups: int = 1, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Input in channels-last memory, weight and bias."""
    torch.manual_seed(0)
    shapes = (batch, *grid, 4), (6 * groups, 4 // groups, *[kernel] * len(grid)), (6 * groups,)
    x, weight, bias = (torch.randn(shape).to(dtype) for shape in shapes)
    return [tensor.requires_grad_() for tensor in (x.movedim(-1, 1), weight, bias)]


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1) -> Tensor:
    return PLAIN[weight.ndim - 2](x, weight, bias, stride, padding, 1, groups)


def ours(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1) -> Tensor:
    axes = weight.ndim - 2
    return convolution(x, weight, bias, [stride] * axes, [padding] * axes, groups)


def with_gradients(y: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(y.shape, generator=generator).bfloat16().to(y.dtype)  # the same in any type
    return [y, *torch.autograd.grad(y, tensors, upstream)]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (1, 1), (2, 1), (3, 1), (7, 3)])
@pytest.mark.parametrize("grid", GRIDS)
def test_values_and_gradients_are_the_plain_ones(
    grid: tuple[int, ...], kernel: int, padding: int, batch: int, groups: int
) -> None:
    for stride in (1, 2, 3):
        tensors = problem(grid, kernel, batch=batch, groups=groups)
        expected = with_gradients(plain(*tensors, stride, padding, groups), tensors)
        given = with_gradients(ours(*tensors, stride, padding, groups), tensors)
        for a, b in zip(given, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(
    ("grid", "kernel", "stride", "groups"),
    [
        ((56, 56), 1, 2, 1),
        ((57,), 1, 2, 2),
        ((9, 8, 7), 1, 2, 1),
        ((6, 12, 12), 7, 2, 1),  # oneDNN's gradient in float32 has no digit right
        ((2, 12, 12), 3, 1, 4),  # nor this one in bfloat16
        ((12, 2, 12), 7, 1, 4),
    ],
)
def test_short_numbers_lose_no_more_than_they_must(
    grid: tuple[int, ...], kernel: int, stride: int, groups: int, dtype: torch.dtype, tolerance: float
) -> None:
    tensors = problem(grid, kernel, groups=groups, dtype=dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = with_gradients(plain(*exact, stride, kernel // 2, groups), exact)
    for a, b in zip(with_gradients(ours(*tensors, stride, kernel // 2, groups), tensors), expected, strict=True):
        assert a.dtype is dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()


def test_any_memory_format_will_do() -> None:
    x, weight, bias = problem((7, 6), 1)
    other = x.detach().contiguous().requires_grad_()
    for a, b in zip(
        with_gradients(ours(x, weight, bias, 2, 0), [x, weight, bias]),
        with_gradients(ours(other, weight, bias, 2, 0), [other, weight, bias]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_gradients_stay_in_channels_last_memory() -> None:
    tensors = problem((8, 8), 1)
    y, of_x, *_ = with_gradients(ours(*tensors, 2, 0), tensors)
    for tensor in (y, of_x):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("grid", [(5,), (4, 3)])
def test_derivatives_of_every_kind(grid: tuple[int, ...]) -> None:
    x, weight, _ = problem(grid, 1, batch=2)

    def strided(x: Tensor, weight: Tensor) -> Tensor:
        return ours(x, weight, None, 2, 0)

    assert torch.autograd.gradcheck(strided, (x, weight), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(strided, (x, weight))

    def loss(weight: Tensor, sample: Tensor) -> Tensor:
        return strided(sample[None], weight).square().sum()

    of_each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight.detach(), x.detach())
    (together,) = torch.autograd.grad(strided(x, weight).square().sum(), weight)
    torch.testing.assert_close(of_each.sum(0), together)


def test_a_subsample_is_every_so_many_places() -> None:
    x = torch.arange(35.0).view(1, 1, 5, 7)
    expected = x[:, :, ::2, ::3]
    assert torch.equal(subsample(x, (2, 3)), expected)
    assert torch.equal(subsample(x.requires_grad_(), (2, 3)), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_layers_have_the_weights_and_products_of_pytorchs(dimensions: int) -> None:
    x = torch.randn(2, 8, *(9, 6, 7)[:dimensions])
    theirs = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions](8, 12, 1, 2)
    layer = CONVOLUTIONS[dimensions](8, 12, 1, 2)
    layer.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(layer(x), theirs(x))
    assert count_macs(layer, x) == count_macs(theirs, x)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_depthwise_layer_of_any_kernel_has_a_stride(kernel: int) -> None:
    layer = depthwise_layer(4, kernel, stride=2)
    x = torch.randn(2, 4, 7, 6)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, 2, kernel // 2, 1, 4))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_compiled_and_exported_it_is_the_same(dimensions: int) -> None:
    pair = ConvNorm(4, 6, 1, stride=2, dimensions=dimensions).eval()
    x = torch.randn(3, 4, *(7, 5, 6)[:dimensions])
    expected = pair(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(pair, backend="aot_eager", fullgraph=True)(x), expected)
    exported = torch.export.export(pair, (x,), dynamic_shapes=({0: Dim("batch", min=1, max=64)},)).module()
    torch.testing.assert_close(exported(x), expected)
    torch.testing.assert_close(exported(x[:1]), expected[:1])
