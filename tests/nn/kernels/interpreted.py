"""What the tests of the functions do not ask of the kernels: single tokens, several tiles, gradients in bfloat16.

Run by ``test_interpreted``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn import kernels
from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.selective_scan import selective_scan
from formwright.nn.kernels.delta_rule import delta_rule_by_kernel
from formwright.nn.kernels.recurrence import decayed_recurrence
from formwright.nn.kernels.selective_scan import selective_scan_by_kernel
from tests.nn.functional import test_delta_rule, test_selective_scan
from tests.nn.functional.naive import normal
from tests.nn.functional.recurrences import assert_same

TIMES = (1, 31, 64, 65)


def undecayed(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return decayed_recurrence(q, k, v, None, state)


def naive(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence, one token after the other; heads share groups."""
    shared = v.shape[2] // q.shape[2]
    q, k = q.repeat_interleave(shared, dim=2), k.repeat_interleave(shared, dim=2)
    if log_decay.ndim == 3:
        log_decay = log_decay.unsqueeze(-1)
    outputs = []
    for t in range(q.shape[1]):
        state = log_decay[:, t].exp().unsqueeze(-1) * state + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outputs.append((q[:, t].unsqueeze(-1) * state).sum(-2))
    return torch.stack(outputs, dim=1), state


def operands(
    time: int,
    decay: str = "channels",
    keys: int = 5,
    values: int = 7,
    groups: int = 1,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time)
    batch, heads = 2, 2

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    shape = (batch, time, heads, keys) if decay == "channels" else (batch, time, heads)
    log_decay = strength * F.logsigmoid(normal(*shape))
    q, k = normal(batch, time, groups, keys), normal(batch, time, groups, keys)
    given = (q, k, normal(batch, time, heads, values), log_decay, normal(batch, heads, keys, values))
    return [tensor.to(dtype) for tensor in given]


@pytest.mark.parametrize("decay", ["heads", "channels"])
@pytest.mark.parametrize("time", TIMES)
def test_lengths(time: int, decay: str) -> None:
    assert_same(decayed_recurrence, naive, operands(time, decay))


def test_float32() -> None:
    assert_same(decayed_recurrence, naive, operands(70, dtype=torch.float32))


@pytest.mark.parametrize("time", TIMES)
def test_lengths_without_decay(time: int) -> None:
    q, k, v, log_decay, state = operands(time, groups=2)

    def loop(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return naive(q, k, v, torch.zeros_like(log_decay), state)

    assert_same(undecayed, loop, [q, k, v, state])


@pytest.mark.parametrize("decay", ["heads", "channels"])
def test_several_tiles_of_keys_and_values(decay: str) -> None:
    assert_same(decayed_recurrence, naive, operands(33, decay, keys=70, values=70))


@pytest.mark.parametrize("decay", ["heads", "channels"])
@pytest.mark.parametrize("strength", [0.01, 20.0])
def test_weak_and_strong_decay(strength: float, decay: str) -> None:
    """Where little is left of a token after the next one, the gradients of the decays are that little."""
    assert_same(decayed_recurrence, naive, operands(70, decay, strength=strength, dtype=torch.float32))


def test_a_decay_to_nothing() -> None:
    given = operands(40)
    given[3][:, 7], given[3][:, 35:37] = -torch.inf, -torch.inf
    assert_same(decayed_recurrence, naive, given)


def linear_outcome(kernel: Callable[..., tuple[Tensor, Tensor]], given: Sequence[Tensor]) -> list[Tensor]:
    """Output, final state and gradients, which do not depend on how the output is rounded."""
    leaves = [x.detach().requires_grad_() for x in given]
    results = kernel(*leaves)
    weights = [normal(*x.shape, seed=seed).bfloat16().float() for seed, x in enumerate(results)]
    loss = sum((x.float() * weight).sum() for x, weight in zip(results, weights, strict=True))
    return [*results, *torch.autograd.grad(loss, leaves)]


def single_rounding(kernel: Callable[..., tuple[Tensor, Tensor]], given: Sequence[Tensor]) -> None:
    """Results for operands in bfloat16 are those for the same numbers in float32, rounded once."""
    low, high = linear_outcome(kernel, given), linear_outcome(kernel, [x.float() for x in given])
    for ours, expected in zip(low, high, strict=True):
        torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=2**-7, atol=1e-4)
    assert [x.dtype for x in low] == [given[0].dtype, given[-1].dtype, *(x.dtype for x in given)]


@pytest.mark.parametrize("decay", ["heads", "channels"])
def test_gradients_in_bfloat16(decay: str) -> None:
    *sequence, state = operands(70, decay)
    single_rounding(decayed_recurrence, [*(x.bfloat16() for x in sequence), state.float()])


def test_gradients_of_the_delta_rule_in_bfloat16() -> None:
    *sequence, state = test_delta_rule.operands(time=70)
    single_rounding(delta_rule_by_kernel, [*(x.bfloat16() for x in sequence), state.float()])


def test_gradients_of_the_selective_scan_in_bfloat16() -> None:
    *sequence, state = test_selective_scan.operands()
    single_rounding(selective_scan_by_kernel, [*(x.bfloat16() for x in sequence), state.float()])


@pytest.mark.parametrize("time", [1, 32, 33])
def test_lengths_of_the_delta_rule(time: int) -> None:
    assert_same(delta_rule_by_kernel, test_delta_rule.naive, test_delta_rule.operands(time=time))


def test_several_tiles_of_values_of_the_delta_rule() -> None:
    q, k, v, beta, state = test_delta_rule.operands(time=40)
    wide = [q, k, v.repeat(1, 1, 1, 10), beta, state.repeat(1, 1, 1, 10)]
    assert_same(delta_rule_by_kernel, test_delta_rule.naive, wide)


def test_more_keys_than_a_tile_of_the_delta_rule_holds_are_not_for_the_kernels() -> None:
    q = torch.zeros(1, 2, 1, kernels.MOST_KEYS + 1)
    with pytest.raises(AssertionError, match="by a kernel"):
        delta_rule(q, q, q, torch.zeros(1, 2, 1))


@pytest.mark.parametrize("time", [1, 16, 17])
def test_lengths_of_the_selective_scan(time: int) -> None:
    assert_same(selective_scan_by_kernel, test_selective_scan.naive, test_selective_scan.operands(time=time))


def test_several_tiles_of_channels_of_the_selective_scan() -> None:
    given = test_selective_scan.operands(batch=1, time=4, channels=67)
    assert_same(selective_scan_by_kernel, test_selective_scan.naive, given)


def test_operands_need_not_be_contiguous() -> None:
    given = operands(40)
    expected = decayed_recurrence(*given)
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in given]
    for ours, same in zip(decayed_recurrence(*strided), expected, strict=True):
        assert torch.equal(ours, same)


def test_second_derivatives_are_refused() -> None:
    for kernel, given in (
        (decayed_recurrence, operands(4)),
        (delta_rule_by_kernel, test_delta_rule.operands(time=4)),
        (selective_scan_by_kernel, test_selective_scan.operands(time=4)),
    ):
        leaves = [x.detach().requires_grad_() for x in given]
        y, _ = kernel(*leaves)
        with pytest.raises(UserError, match=r"first derivatives only.+kernels\.disable\(\)"):
            torch.autograd.grad(y.sum(), leaves, create_graph=True)


def test_transformed_functions_are_not_for_the_kernels() -> None:
    x, delta, a, b, c, state = test_selective_scan.operands(time=4)

    def loss(x: Tensor) -> Tensor:
        return selective_scan(x, delta, a, b, c, initial_state=state)[0].sin().sum()

    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(torch.func.grad(loss)(x), torch.autograd.grad(loss(leaf), leaf)[0])
