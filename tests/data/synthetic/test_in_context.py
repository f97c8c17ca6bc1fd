"""Prompts for regression in context: their layout, what least squares makes of them, and what stays the same."""

from __future__ import annotations

import pytest
import torch

from formwright.data.synthetic.in_context import at_points, least_squares, linear_prompts, random_representation
from formwright.errors import UserError


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_points_and_values_take_turns() -> None:
    prompts = linear_prompts(2, 3, 4, generator=source())
    vectors = prompts.vectors
    assert vectors.shape == (2, 6, 4)
    assert torch.equal(vectors[:, ::2], prompts.x)
    assert torch.equal(vectors[:, 1::2, 0], prompts.y)
    assert vectors[:, 1::2, 1:].abs().max() == 0
    assert torch.equal(at_points(vectors[..., :1]), prompts.x[..., 0])


@pytest.mark.parametrize("layers", [0, 2])
def test_least_squares_knows_the_function_after_as_many_points_as_channels(layers: int) -> None:
    represent = random_representation(4, layers=layers) if layers else None
    prompts = linear_prompts(20, 9, 4, generator=source(), representation=represent)
    error = (least_squares(prompts, represent) - prompts.y).square().mean(0)
    assert error[5:].max() < 1e-8
    assert error[:4].min() > 0.05


def test_least_squares_on_the_points_does_not_know_a_representation() -> None:
    prompts = linear_prompts(50, 12, 4, generator=source(), representation=random_representation(4, layers=3))
    assert (least_squares(prompts) - prompts.y)[:, 6:].square().mean() > 0.1


def test_values_are_of_order_one_and_noise_is_added() -> None:
    represent = random_representation(16)
    prompts = linear_prompts(500, 8, 16, generator=source(), representation=represent)
    assert 0.3 < prompts.y.var() < 3
    noisy = linear_prompts(500, 8, 16, generator=source(), representation=represent, noise=0.5)
    assert (noisy.y - prompts.y).std() == pytest.approx(0.5, rel=0.05)


def test_the_representation_is_fixed_and_the_weights_are_not() -> None:
    x = torch.randn(3, 4)
    assert torch.equal(random_representation(4, seed=1)(x), random_representation(4, seed=1)(x))
    assert not torch.equal(random_representation(4, seed=1)(x), random_representation(4, seed=2)(x))
    again = linear_prompts(2, 3, 4, generator=source(5)), linear_prompts(2, 3, 4, generator=source(5))
    assert torch.equal(again[0].y, again[1].y)
    assert not torch.equal(again[0].y, linear_prompts(2, 3, 4, generator=source(6)).y)


def test_what_is_no_prompt_is_refused() -> None:
    with pytest.raises(UserError, match="no pairs"):
        at_points(torch.zeros(1, 5, 1))
    with pytest.raises(UserError, match="at least 1"):
        linear_prompts(2, 0, 4, generator=source())
