"""Recurrences as single operations of the graphs that ``torch.compile`` makes.

Traced, the loop over chunks would be unrolled: a graph of thousands of operations, minutes for the compiler, and
another one for every length. As one operation it is run as it is without a compiler, whatever the length, forward and
backward. ``torch.export`` sees through it all the same, because a file that is shipped must hold nothing of ours.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

#: ``(*operands, *options) -> (y, state)``; operands are tensors (or ``None``), options whole numbers or truth values.
Recurrence = TypeVar("Recurrence", bound=Callable[..., tuple[Tensor, Tensor]])


def one_operation(name: str, shaped: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[Recurrence], Recurrence]:
    """Let ``torch.compile`` take a recurrence as one operation, ``torch.ops.formwright.<name>``.

    What its chunks have made is computed again for the backward pass, not kept. Second derivatives are refused.

    Args:
        name: of the operation.
        shaped: empty tensors like the two results, from the same arguments, without a look at their values.
    """

    def decorate(recurrence: Recurrence) -> Recurrence:
        operation = _operation(f"formwright::{name}", recurrence, shaped)

        @functools.wraps(recurrence)
        def call(*arguments: Any) -> tuple[Tensor, Tensor]:
            if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
                return operation(*arguments)
            return recurrence(*arguments)

        return call  # type: ignore[return-value]

    return decorate


def _operation(name: str, recurrence: Recurrence, shaped: Callable[..., tuple[Tensor, Tensor]]) -> Any:
    kinds = {
        key: str(each.annotation).replace("Tensor | None", "Tensor?")
        for key, each in inspect.signature(recurrence).parameters.items()
    }
    operands = sum(kind.startswith("Tensor") for kind in kinds.values())
    arguments = ", ".join(f"{kind} {key}" for key, kind in kinds.items())

    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        y, state = recurrence(*arguments)
        return y.contiguous(), _own(state)

    def backward(of_y: Tensor, of_state: Tensor, wanted: list[bool], *arguments: Any) -> list[Tensor]:
        # Within an operation gradients are not recorded, whatever grad mode says, unless that is undone.
        with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False):
            with torch.enable_grad():
                given = [x.detach().requires_grad_() if want else x for x, want in zip(arguments, wanted, strict=False)]
                results = recurrence(*given, *arguments[operands:])
            pairs = [pair for pair in zip(results, (of_y, of_state), strict=True) if pair[0].requires_grad]
            outputs, gradients = zip(*pairs, strict=True)
            sources = [x for x, want in zip(given, wanted, strict=True) if want]
            found = torch.autograd.grad(outputs, sources, gradients, materialize_grads=True)
        return [_own(gradient) for gradient in found]

    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:operands])
        ctx.options = inputs[operands:]

    def differentiate(ctx: Any, of_y: Tensor, of_state: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[:operands])
        found = iter(gradients_of(of_y, of_state, wanted, *ctx.saved_tensors, *ctx.options))
        return (*(next(found) if want else None for want in wanted), *(None for _ in ctx.options))

    operation = torch.library.custom_op(name, forward, mutates_args=(), schema=f"({arguments}) -> (Tensor, Tensor)")
    gradients_of = torch.library.custom_op(
        f"{name}_gradients",
        backward,
        mutates_args=(),
        schema=f"(Tensor of_y, Tensor of_state, bool[] wanted, {arguments}) -> Tensor[]",
    )
    operation.register_fake(shaped)
    gradients_of.register_fake(
        lambda of_y, of_state, wanted, *arguments: [
            x.new_empty(x.shape) for x, want in zip(arguments, wanted, strict=False) if want
        ]
    )
    operation.register_autograd(differentiate, setup_context=remember)
    return operation


def _own(x: Tensor) -> Tensor:
    """A copy: results of an operation share their memory neither with each other nor with operands."""
    return x.clone(memory_format=torch.contiguous_format)
