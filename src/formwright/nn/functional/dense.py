"""Dense layers by oneDNN's products: in inference one operation, activation included."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.activations import SquaredReLU, StarReLU, TanhGELU
from formwright.nn.functional.transforms import transformed

#: Multiply-accumulates from which on oneDNN's operation pays for its dearer call (some 25 µs).
_WORTH = 8_000_000

#: Activations that oneDNN computes while a result is still in registers: its name and the variant.
_FUSED: dict[type[nn.Module], tuple[str, str]] = {
    nn.Identity: ("none", ""),
    nn.ReLU: ("relu", ""),
    nn.GELU: ("gelu", "none"),
    TanhGELU: ("gelu", "tanh"),
    nn.SiLU: ("swish", ""),
    SquaredReLU: ("relu", ""),  # squared in place afterwards, both of them
    StarReLU: ("relu", ""),
}
_NOTHING = nn.Identity()
_TYPES = (torch.float32, torch.bfloat16)


def dense(linear: nn.Module, x: Tensor, activation: nn.Module = _NOTHING) -> Tensor:
    """``activation(x Wᵀ + b)``, ``(..., in)`` to ``(..., out)``.

    In inference on a CPU in float32 or bfloat16, product, bias and activation are one operation of oneDNN, the one
    that PyTorch's own compiler emits, which spares two passes over the result. In training in float32 the product is
    oneDNN's too, forward and for the gradient of ``x``. Everywhere else (tracing, autocast, other devices and types, a
    module that is listened to or was replaced) it is ``activation(linear(x))``.
    """
    if not _suited(linear, x):
        return activation(linear(x))
    if torch.is_grad_enabled():
        if x.dtype is not torch.float32 or transformed():
            return activation(linear(x))
        return activation(_Dense.apply(x, linear.weight, linear.bias))  # type: ignore[no-untyped-call]
    if not (type(activation) in _FUSED and _unheard(activation)):
        return activation(linear(x))
    name, variant = _FUSED[type(activation)]
    if isinstance(activation, nn.GELU) and activation.approximate != "none":
        variant = activation.approximate
    y = torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, name, [], variant)
    if isinstance(activation, StarReLU):
        y = torch.addcmul(activation.bias, y, y, value=activation.scale.item(), out=y)
    elif isinstance(activation, SquaredReLU):
        y = y.square_()
    return y


def outputs_of(linear: nn.Module, x: Tensor, rows: slice) -> Tensor:
    """The output channels ``rows`` of ``linear(x)``; of a plain layer only they are computed."""
    if not known(linear):
        return linear(x)[..., rows]
    return F.linear(x, linear.weight[rows], None if linear.bias is None else linear.bias[rows])


class _Dense(torch.autograd.Function):
    """``x Wᵀ + b``. The gradient of ``W`` stays with PyTorch's product, which is the faster one there."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        rows = gradient.flatten(0, -2)
        by_x = None
        if for_x and torch.is_grad_enabled():  # the gradient shall be differentiated again
            by_x = gradient @ weight
        elif for_x:
            by_x = torch.ops.mkldnn._linear_pointwise(gradient, weight.t(), None, "none", [], "")
        by_weight = rows.t() @ x.flatten(0, -2) if for_weight else None
        return by_x, by_weight, rows.sum(0) if for_bias else None


def _suited(linear: nn.Module, x: Tensor) -> TypeGuard[nn.Linear]:
    if type(linear) is not nn.Linear or type(x) is not Tensor or torch.compiler.is_compiling():
        return False
    weight = linear.weight
    return bool(
        x.numel() * weight.shape[0] >= _WORTH  # a traced size is not compared
        and x.dtype in _TYPES
        and weight.dtype is x.dtype
        and x.device.type == "cpu"
        and type(weight) is nn.Parameter
        and _unheard(linear)
        and torch.backends.mkldnn.enabled
        and torch._C._has_mkldnn
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()  # counters and profilers of operations know the usual ones
    )


def known(linear: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is ``x Wᵀ + b`` and nobody notices that its mathematics is computed without calling it."""
    return type(linear) is nn.Linear and _unheard(linear)


def _unheard(module: nn.Module) -> bool:
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )
