"""What a part declares to be read and replaced on the way really is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.batch import call as answer
from formwright.nn import Part
from formwright.nn.specification import ImageInput, SeriesInput, TokenInput, VectorInput
from formwright.nn.taps import read_taps, replace_taps, tap_points
from tests.conformance.instances import (
    Case,
    build,
    call,
    inputs,
    named_inputs,
    smallest_variants,
    tiny_model,
    tiny_network,
    tokens,
)
from tests.conformance.test_networks import each_network, named
from tests.conformance.test_traced import each_case

KINDS = (ImageInput, TokenInput, SeriesInput, VectorInput)
VARIANTS = [pair for kind in KINDS for pair in smallest_variants(kind).items()]


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def own_taps(module: nn.Module) -> list[str]:
    """The taps that parts declare, beside the ends that everything has."""
    return [point for point in tap_points(module) if point.rpartition(":")[2] not in ("input", "output")]


@each_case
def test_taps_occur_and_reading_changes_nothing(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    x, context = tokens(case, grid)
    x.requires_grad_()
    expected, _ = call(module, x, context)
    if not expected.requires_grad:
        assert "gradients" in module.promises.exemptions
        expected = expected + 0 * x.sum()
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    with read_taps(module, "*") as values:
        y, _ = call(module, x, context)
    y = y if y.requires_grad else y + 0 * x.sum()
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert_same(y, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-9 * float(expected_gradient.abs().max()))
    assert set(values) == set(tap_points(module))
    assert values[":input"] is x
    assert all(inner.listeners is None for inner in module.modules() if isinstance(inner, Part))


@each_case
@torch.inference_mode()
def test_replacing(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    x, context = tokens(case, grid)
    expected, _ = call(module, x, context)
    with replace_taps(module, {"*": lambda value: value.clone() if isinstance(value, Tensor) else value}):
        assert_same(call(module, x, context)[0], expected)
    with replace_taps(module, {":output": torch.zeros_like}):
        assert not call(module, x, context)[0].any()
    assert expected.any()
    for point in own_taps(module):
        with replace_taps(module, {point: torch.zeros_like}):
            assert not torch.equal(call(module, x, context)[0], expected), point
    assert torch.equal(call(module, x, context)[0], expected)


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=lambda name: name)
@torch.inference_mode()
def test_taps_of_models(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x = inputs(model)
    expected = model(x)
    with read_taps(model, "*") as values:
        assert_same(model(x), expected)
    assert set(values) == set(tap_points(model))


@each_network
@torch.inference_mode()
def test_taps_of_networks_of_other_kinds(name: str) -> None:
    model = tiny_network(name)
    given = named_inputs(model)
    expected = named(answer(model, given))
    with read_taps(model, "*") as values:
        outputs = named(answer(model, given))
    for key, output in outputs.items():
        assert_same(output, expected[key])
    silent = {point.rpartition(":")[0] for point in set(tap_points(model)) - set(values)}
    # TEMPO takes the blocks of a language model and leaves the model around them alone; a pyramid takes the maps of a
    # backbone on their way.
    passed_by = {"language.backbone", "language.head"} if name == "tempo" else set()
    assert silent <= (passed_by | ({"backbone"} if hasattr(model, "neck") else set()))
