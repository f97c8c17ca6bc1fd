"""Exported and compiled, a part or model gives what it gives when it is run line by line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.nn import Context, Part
from tests.conformance.instances import (
    Case,
    build,
    call,
    cases_and_grids,
    exempt,
    pictures,
    smallest_variants,
    tiny_model,
    tokens,
)

VARIANTS = smallest_variants()
each_model = pytest.mark.parametrize(("family", "variant"), VARIANTS.items(), ids=VARIANTS.keys())


class Tokens(nn.Module):
    """A part with its context fixed: a tensor in, a tensor out."""

    def __init__(self, part: Part, context: Context) -> None:
        super().__init__()
        self.part, self.context = part, context

    def forward(self, x: Tensor) -> Tensor:
        return call(self.part, x, self.context)[0]


def one_grid_a_case() -> list[object]:
    """The case on the most axes that its part takes at most two of: what images need."""
    chosen: dict[str, object] = {}
    for parameters in cases_and_grids():
        case, grid = parameters.values
        if len(grid) <= 2 or str(case) not in chosen:
            chosen[str(case)] = pytest.param(case, grid, id=str(case))
    return list(chosen.values())


each_case = pytest.mark.parametrize(("case", "grid"), one_grid_a_case())


def compiled(module: nn.Module) -> nn.Module:
    torch.compiler.reset()
    return torch.compile(module, backend="aot_eager", fullgraph=True)  # type: ignore[return-value]


def assert_equal_outputs(module: nn.Module, traced: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(traced(x), module(x), rtol=1e-9, atol=1e-9)


@each_case
def test_exported_part_agrees(case: Case, grid: tuple[int, ...]) -> None:
    exempt(case, "export")
    x, context = tokens(case, grid)
    module = Tokens(build(case, grid), context).eval()
    assert_equal_outputs(module, torch.export.export(module, (x,)).module(), x)


@each_case
def test_compiled_part_agrees(case: Case, grid: tuple[int, ...]) -> None:
    exempt(case, "compile")
    x, context = tokens(case, grid)
    module = Tokens(build(case, grid), context).eval()
    assert_equal_outputs(module, compiled(module), x)


@each_model
def test_exported_model_agrees_for_any_batch(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (pictures(model),), dynamic_shapes=({0: batch},))
    for size in (2, 1, 3):
        assert_equal_outputs(model, program.module(), pictures(model, size))


@each_model
def test_compiled_model_agrees(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    assert_equal_outputs(model, compiled(model), pictures(model))
