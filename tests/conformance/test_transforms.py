"""Every family gives what a loop and autograd give when ``torch.func`` calls, differentiates or maps it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad

from formwright.models import Model
from formwright.nn.specification import ImageInput, SeriesInput, TokenInput, VectorInput
from tests.conformance.instances import inputs, smallest_variants, tiny_model

KINDS = (ImageInput, TokenInput, SeriesInput, VectorInput)
VARIANTS = {family: variant for kind in KINDS for family, variant in smallest_variants(kind).items()}
each_model = pytest.mark.parametrize(("family", "variant"), VARIANTS.items(), ids=VARIANTS.keys())
# Mapping what has no rule of its own is slow, which PyTorch says of each such operation.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def loss(model: Model, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional_call(model, parameters, (x,)).sin().sum()


def learned(model: Model) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


@each_model
def test_called_with_other_weights(family: str, variant: str) -> None:
    model, other = tiny_model(family, variant), tiny_model(family, variant, seed=1)
    x = inputs(model)
    ours = functional_call(model, {**dict(other.named_parameters()), **dict(other.named_buffers())}, (x,))
    assert_close(ours, other(x))


@each_model
def test_gradients_of_a_function_are_those_of_autograd(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x, parameters = inputs(model), learned(model)
    expected = torch.autograd.grad(model(x).sin().sum(), tuple(parameters.values()), materialize_grads=True)
    ours = grad(lambda weights: loss(model, weights, x))({name: p.detach() for name, p in parameters.items()})
    for name, theirs in zip(parameters, expected, strict=True):
        assert_close(ours[name], theirs)


@each_model
def test_mapped_over_batches(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    batches = torch.stack([inputs(model, seed=seed) for seed in range(3)])
    assert_close(torch.vmap(model)(batches), torch.stack([model(x) for x in batches]))


@each_model
def test_gradients_of_every_sample(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    samples, parameters = inputs(model, 3), {name: p.detach() for name, p in learned(model).items()}
    ours = torch.vmap(grad(lambda weights, x: loss(model, weights, x[None])), in_dims=(None, 0))(parameters, samples)
    for index in range(len(samples)):
        expected = torch.autograd.grad(
            model(samples[index : index + 1]).sin().sum(), tuple(learned(model).values()), materialize_grads=True
        )
        for name, theirs in zip(parameters, expected, strict=True):
            assert_close(ours[name][index], theirs)
