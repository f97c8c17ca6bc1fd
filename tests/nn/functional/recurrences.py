"""What the tests of the recurrences share: how near is near, and gradients of everything that is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Largest difference over the reference's largest value.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2}

Scan = Callable[..., tuple[Tensor, Tensor]]


def assert_near(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    assert ours.shape == reference.shape
    if not reference.numel():
        return
    with torch.no_grad():
        assert torch.isfinite(ours).all()
        difference = (ours.double() - reference.double()).abs().max()
        assert difference <= tolerance * reference.double().abs().max()


def outcome(scan: Scan, operands: Sequence[Tensor]) -> list[Tensor]:
    """Output, final state, and the gradients of a loss on both to each of ``operands``."""
    operands = [operand.detach().requires_grad_() for operand in operands]
    y, state = scan(*operands)
    loss = y.to(state.dtype).sin().sum() + state.square().sum()
    return [y, state, *torch.autograd.grad(loss, operands)]


def assert_same(ours: Scan, naive: Scan, operands: Sequence[Tensor]) -> None:
    """``ours`` in the operands' own type is near ``naive`` in float64, in all of :func:`outcome`."""
    tolerance = TOLERANCE[operands[0].dtype]
    reference = outcome(naive, [operand.double() for operand in operands])
    for mine, other in zip(outcome(ours, operands), reference, strict=True):
        assert_near(mine, other, tolerance)


def lengths_mask(lengths: Sequence[int], time: int) -> Tensor:
    return torch.arange(time) < torch.tensor(lengths)[:, None]
