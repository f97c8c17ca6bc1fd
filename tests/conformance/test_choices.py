"""Any choice out of a network of any kind computes on shared weights what it does when it is cut out."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from formwright.compression import extract
from formwright.models import Network
from formwright.models.choices import Choice, narrowed
from formwright.search.supernets import space_of
from tests.conformance.instances import answers, toy, toys

CHOICES = 3


def tensors(network: Network) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def is_a_slice(cut: Tensor, whole: Tensor) -> bool:
    """Whether ``cut`` is ``whole`` at some places of each dimension, in their order; all values of ``whole`` differ."""
    flat = whole.flatten()
    order = flat.argsort()
    found = order[torch.searchsorted(flat[order], cut.flatten()).clamp(max=len(flat) - 1)]
    if not torch.equal(flat[found], cut.flatten()):
        return False
    places = torch.stack(torch.unravel_index(found, whole.shape)).view(whole.ndim, *cut.shape)
    for dimension in range(whole.ndim):
        along = places[dimension].movedim(dimension, 0).reshape(cut.shape[dimension], -1)
        if not (along == along[:, :1]).all() or not (along[1:, 0] > along[:-1, 0]).all():
            return False
    return True


@pytest.mark.parametrize("name", toys())
def test_what_is_run_on_shared_weights_is_what_is_cut_out(name: str) -> None:
    network = toy(name)
    space = space_of(network)
    chance = random.Random(name)
    choices = [space.smallest, space.largest, *(space.sample(chance) for _ in range(CHOICES))]
    state = {key: (id(tensor), tensor.clone()) for key, tensor in tensors(network).items()}
    modules = [(path, type(module), repr(module)) for path, module in network.named_modules()]
    with torch.no_grad():
        whole = answers(network)
        for choice in choices:
            smaller = extract(network, choice)
            with narrowed(network, choice):
                inside = answers(network)
                views = {key: tensor.clone() for key, tensor in tensors(network).items()}
            torch.testing.assert_close(inside, answers(smaller), rtol=1e-11, atol=1e-11)
            assert views.keys() == tensors(smaller).keys()
            for key, tensor in tensors(smaller).items():
                assert torch.equal(views[key], tensor), key
            assert sum(p.numel() for p in smaller.parameters()) <= network.parameter_count()
        assert all(torch.equal(answers(network)[key], y) for key, y in whole.items())
    assert modules == [(path, type(module), repr(module)) for path, module in network.named_modules()]
    for key, tensor in tensors(network).items():
        assert id(tensor) == state[key][0], key
        assert torch.equal(tensor, state[key][1]), key


@pytest.mark.parametrize("name", toys())
def test_what_is_cut_out_are_slices_of_the_weights(name: str) -> None:
    network = toy(name)
    for parameter in network.parameters():
        parameter.data = torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape)
    space = space_of(network, drop=False)
    smaller = extract(network, space.sample(random.Random(name)))
    for key, parameter in smaller.named_parameters():
        assert is_a_slice(parameter.detach(), network.get_parameter(key).detach()), key


@pytest.mark.parametrize("name", toys())
def test_gradients_are_those_of_what_is_cut_out(name: str) -> None:
    network = toy(name)
    choice = space_of(network).sample(random.Random(name))
    smaller = extract(network, choice)
    with narrowed(network, choice):
        outputs = answers(network)
    for y in (outputs, answers(smaller)):
        torch.stack([one.square().mean() for one in y.values() if one.requires_grad]).sum().backward()
    with narrowed(network, choice):
        shapes = {key: tensor.shape for key, tensor in network.named_parameters()}
    for key, parameter in smaller.named_parameters():
        gradient = network.get_parameter(key).grad
        if parameter.grad is None:
            assert gradient is None or not gradient.any(), key
            continue
        assert gradient is not None, key
        assert shapes[key] == parameter.shape
        inside, own = gradient[gradient != 0].sum(), parameter.grad[parameter.grad != 0].sum()
        torch.testing.assert_close(inside, own, rtol=1e-7, atol=1e-9)
        assert int((gradient != 0).sum()) <= parameter.numel(), key


def test_the_choice_of_everything_changes_nothing() -> None:
    network = toy("vit")
    assert not extract(network, Choice()).specification.edits
