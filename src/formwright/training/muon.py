"""Muon: momentum whose matrices are made orthogonal before the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic a X + b (X Xᵀ) X + c (X Xᵀ)² X drives every singular value towards one in few rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, rounds: int) -> Tensor:
    """``U Vᵀ`` of ``matrix = U S Vᵀ``, approximately, by Newton-Schulz rounds in bfloat16: ``(rows, columns)``."""
    a, b, c = _COEFFICIENTS
    x = matrix.to(torch.bfloat16)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal: ``W -= lr * (sqrt(max(1, rows / columns)) * U Vᵀ + decay * W)``.

    A convolution's kernel counts as a matrix of its output channels against everything else, which PyTorch's own
    ``torch.optim.Muon`` refuses. For matrices only: give vectors and tables to another optimiser. With
    ``normed_kernels``, a kernel is scaled to the norm ``sqrt(rows)`` before each step, ``W *= sqrt(rows) / |W|``: where
    a norm follows it, its size says nothing but how far a step turns it.

    Args:
        params: matrices and kernels.
        lr: step length; it means the same for every width.
        momentum: of the running mean of the gradients.
        weight_decay: as in the formula.
        rounds: Newton-Schulz rounds.
        normed_kernels: as above, for what has more than two axes.

    Source: Muon is Scalable for LLM Training, arXiv 2502.16982; K. Jordan et al., 2024.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        rounds: int = 4,
        normed_kernels: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rounds": rounds}
        super().__init__(params, {**defaults, "normed_kernels": normed_kernels})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient, mean = parameter.grad, state["momentum"]
        assert gradient is not None
        mean.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"]).flatten(1)
        update = orthogonalize(ahead, group["rounds"]).view(parameter.shape)
        rows, columns = ahead.shape
        if group["normed_kernels"] and parameter.ndim > 2:
            parameter.mul_(rows**0.5 / parameter.norm())
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
