"""The chunked delta rule, its step and its gradients against a loop over time, and what the rule means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.catalog.reference import reference_figures, sample
from formwright.errors import UserError
from formwright.nn.functional.delta_rule import delta_rule, delta_rule_step, unit_lower_inverse
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.nn.functional.linear_attention import causal_linear_attention
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same, lengths_mask


def naive(q, k, v, beta, state):
    """The recurrence of the paper, one token after the other."""
    outputs = []
    for t in range(q.shape[1]):
        key = k[:, t, :, :, None]
        written = beta[:, t, :, None] * (v[:, t] - (key * state).sum(-2))
        state = state + key * written[..., None, :]
        outputs.append((q[:, t, :, :, None] * state).sum(-2))
    return torch.stack(outputs, dim=1), state


def chunked(q, k, v, beta, state, chunk=16):
    return delta_rule(q, k, v, beta, initial_state=state, chunk=chunk)


def operands(batch: int = 2, time: int = 37, dtype: torch.dtype = torch.float64, alike: float = 0.0) -> list[Tensor]:
    """``alike``: how much all keys have in common, up to 1."""
    generator = torch.Generator().manual_seed(time)
    heads, keys, values = 3, 5, 7

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    k = F.normalize((1 - alike) * normal(batch, time, heads, keys) + alike * normal(1, 1, heads, keys), dim=-1)
    beta = torch.rand(batch, time, heads, generator=generator, dtype=torch.float64)
    given = (normal(batch, time, heads, keys), k, normal(batch, time, heads, values), beta)
    return [tensor.to(dtype) for tensor in (*given, normal(batch, heads, keys, values))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 48, 139])
def test_equals_the_loop(time: int, dtype: torch.dtype) -> None:
    assert_same(chunked, naive, operands(time=time, dtype=dtype))


@pytest.mark.parametrize("chunk", [1, 5, 32, 64, 1000])
@pytest.mark.parametrize("time", [31, 128])
def test_equals_the_loop_in_chunks_of_any_size(chunk: int, time: int) -> None:
    given = operands(batch=1, time=time)
    for ours, expected in zip(chunked(*given, chunk=chunk), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_equals_the_loop_over_several_segments() -> None:
    given = operands(batch=1, time=2100)
    for ours, expected in zip(chunked(*given, chunk=64), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_keys_that_are_nearly_the_same_lose_no_digits() -> None:
    """The inverse of a chunk is then far from the identity."""
    given = operands(time=70, dtype=torch.float32, alike=0.97)
    given[3] = torch.ones_like(given[3])
    assert_same(lambda *tensors: chunked(*tensors, chunk=64), naive, given)


def test_writes_that_reflect_the_state_lose_few_digits() -> None:
    """With a beta of 2 nothing fades, and the inverse of a chunk alternates in sign."""
    given = operands(time=70, dtype=torch.float32, alike=0.97)
    given[3] = torch.full_like(given[3], 2.0)
    expected = naive(*(operand.double() for operand in given))
    for ours, other in zip(chunked(*given, chunk=64), expected, strict=True):
        assert_near(ours, other, TOLERANCE[torch.float32])


def test_the_inverse_and_its_gradient() -> None:
    lower = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    expected = torch.linalg.inv(0.3 * lower.tril(-1) + torch.eye(32))
    ours = unit_lower_inverse(0.3 * lower)
    assert_near(ours, expected, 1e-9)
    gradients = [torch.autograd.grad(each.sin().sum(), lower, retain_graph=True)[0] for each in (ours, expected)]
    assert_near(*gradients, 1e-9)


def test_bfloat16_is_accumulated_in_float32() -> None:
    given = operands(time=150, dtype=torch.bfloat16)
    y, state = chunked(*given)
    expected = naive(*(operand.double() for operand in given))
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert_near(y, expected[0], TOLERANCE[torch.bfloat16])
    assert_near(state, expected[1], TOLERANCE[torch.float32])


def test_masked_tokens_leave_the_state_unchanged() -> None:
    given = operands(batch=3)
    mask = torch.rand(3, 37, generator=torch.Generator().manual_seed(1)) < 0.6
    y, state = delta_rule(*given[:-1], initial_state=given[-1], mask=mask, chunk=16)
    for row in range(3):
        real = [operand[row : row + 1, mask[row]] for operand in given[:-1]]
        expected = naive(*real, given[-1][row : row + 1])
        assert_near(y[row : row + 1, mask[row]], expected[0], 1e-9)
        assert_near(state[row : row + 1], expected[1], 1e-9)


def test_a_masked_row_keeps_its_state_whatever_stands_there() -> None:
    given = operands()
    given[2][0] = torch.nan
    state = delta_rule(*given[:-1], initial_state=given[-1], mask=lengths_mask([0, 37], 37))[1]
    assert_near(state[0], given[-1][0], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_steps_equal_the_loop(dtype: torch.dtype) -> None:
    *sequence, state = operands(dtype=dtype)
    expected = naive(*(operand.double() for operand in (*sequence, state)))
    outputs = []
    for tokens in zip(*(operand.unbind(1) for operand in sequence), strict=True):
        y, state = delta_rule_step(*tokens, state)
        outputs.append(y)
    assert_near(torch.stack(outputs, dim=1), expected[0], TOLERANCE[dtype])
    assert_near(state, expected[1], TOLERANCE[dtype])


def test_an_absent_state_is_zero() -> None:
    given = operands()
    given[-1] = torch.zeros_like(given[-1])
    for ours, expected in zip(delta_rule(*given[:-1]), naive(*given), strict=True):
        assert_near(ours, expected, 1e-9)


def test_writing_a_key_again_replaces_its_value_where_linear_attention_adds() -> None:
    key = F.normalize(torch.randn(4, generator=torch.Generator().manual_seed(0)), dim=-1)
    k = key.expand(1, 2, 1, 4)
    v = torch.tensor([[1.0, 2.0], [5.0, -3.0]]).view(1, 2, 1, 2)
    state = delta_rule(k, k, v, torch.ones(1, 2, 1))[1]
    torch.testing.assert_close(key @ state[0, 0], v[0, 1, 0], rtol=1e-5, atol=1e-5)
    added = causal_linear_attention(k, k, v)[1]
    torch.testing.assert_close(key @ added[0, 0], v[0, :, 0].sum(0), rtol=1e-5, atol=1e-5)


def test_a_beta_of_zero_keeps_the_state() -> None:
    given = operands()
    state = delta_rule(*given[:3], torch.zeros_like(given[3]), initial_state=given[-1])[1]
    assert_near(state, given[-1], 1e-12)


def test_a_chunk_of_no_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        delta_rule(*operands()[:-1], chunk=0)


@pytest.mark.parametrize(
    ("system", "recurrence"), [("deltanet", "delta_rule_recurrence"), ("gla", "naive_recurrent_gla")]
)
def test_equals_flash_linear_attention(system: str, recurrence: str) -> None:
    """Its naive recurrences were run in float64 on these operands; they scale queries inside."""
    figures = reference_figures(system)["functions"][recurrence]
    ours = dict(zip(("y", "state"), fla_outcome(system, **figures["sizes"]), strict=True))
    for name, tensor in ours.items():
        expected = figures[name]
        assert list(tensor.shape) == expected["shape"]
        difference = np.abs(np.array(sample(tensor.numpy())) - expected["values"]).max()
        assert difference <= 1e-9 * expected["std"]


def fla_outcome(system: str, *, batch: int, time: int, heads: int, keys: int, values: int) -> tuple[Tensor, Tensor]:
    wide, narrow = (batch, time, heads, keys), (batch, time, heads)
    shapes = (wide, wide, (batch, time, heads, values), narrow, wide, (batch, heads, keys, values))
    q, k, v, gate, decay, state = (
        torch.from_numpy(np.random.RandomState(index).standard_normal(shape)) for index, shape in enumerate(shapes)
    )
    q, k = q * keys**-0.5, F.normalize(k, dim=-1)
    if system == "deltanet":
        return delta_rule(q, k, v, gate.sigmoid(), initial_state=state)
    k = torch.from_numpy(np.random.RandomState(1).standard_normal(wide))
    return gated_linear_attention(q, k, v, F.logsigmoid(decay) / 16, initial_state=state)


@pytest.mark.parametrize("time", [37, 2100])
def test_without_gradients_the_given_state_stays_as_it_was(time: int) -> None:
    given = operands(batch=1, time=time)
    kept = given[-1].clone()
    with torch.no_grad():
        found = chunked(*given)
    for ours, expected in zip(found, chunked(*given), strict=True):
        assert torch.equal(ours, expected)
    assert torch.equal(given[-1], kept)
