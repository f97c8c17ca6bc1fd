"""Exported and compiled, a part or model gives what it gives when it is run line by line."""

from __future__ import annotations

from typing import Any, NoReturn
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn import Context, Part
from formwright.nn.context import OFFERS
from formwright.nn.functional import dense
from formwright.nn.specification import SeriesInput, TokenInput, VectorInput
from tests.conformance.instances import (
    Case,
    build,
    call,
    cases_and_grids,
    exempt,
    inputs,
    pictures,
    smallest_variants,
    tiny_model,
    tokens,
)

VARIANTS = smallest_variants()
each_model = pytest.mark.parametrize(("family", "variant"), VARIANTS.items(), ids=VARIANTS.keys())
SEQUENCES = {**smallest_variants(TokenInput), **smallest_variants(SeriesInput), **smallest_variants(VectorInput)}
each_sequence_model = pytest.mark.parametrize(("family", "variant"), SEQUENCES.items(), ids=SEQUENCES.keys())

BATCH = torch.export.Dim("batch", min=1, max=64)
LONGEST = 4096
LENGTH = torch.export.Dim("length", min=2, max=LONGEST)
#: Families of which the exporter cannot prove for all lengths what it finds for one: frames that become fewer tokens.
#: Two tokens take so many of them.
UNPROVEN = {"ctc_encoder": 5}
#: Families whose texts have one length, and why.
ONE_LENGTH = {
    "lra": "the Long Range Arena pads all texts of a task to one length, of which there are places in a table"
}
#: Recurrent families are traced slowly: fewer blocks than elsewhere.
SHALLOW = {
    "mamba2_hybrid": {"depth": 3, "attention_ratio": 1 / 3, "mlp_ratio": 1 / 3},
    "gla": {"depth": 1},
    "mamba": {"depth": 1},
    "mamba2": {"depth": 1},
}


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


def compiled(module: nn.Module, backend: str) -> nn.Module:
    torch.compiler.reset()
    return torch.compile(module, backend=backend, fullgraph=True)  # type: ignore[return-value]


def assert_equal_outputs(module: nn.Module, traced: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(traced(x), module(x), rtol=1e-9, atol=1e-9)


class Untouched:
    """Stands for a threshold that no traced size may be compared with: the program would hold on one side of it."""

    def __le__(self, size: object) -> NoReturn:
        raise AssertionError(f"the traced size {size} is compared with a threshold")


def exported(module: nn.Module, x: Tensor, axes: dict[int, Any]) -> nn.Module:
    """The exported program; every dense layer is one of those that a threshold concerns."""
    with torch.no_grad(), mock.patch.multiple(dense, _TYPES=(torch.float64,), _WORTH=Untouched()):
        return torch.export.export(module, (x,), dynamic_shapes=(axes,)).module()


@each_case
def test_exported_part_agrees_for_any_batch(case: Case, grid: tuple[int, ...]) -> None:
    exempt(case, "export")
    x, context = tokens(case, grid)
    module = Tokens(build(case, grid), context).eval()
    any_batch = not any(context.says(name) for name in OFFERS)  # offers are for this batch
    program = exported(module, x, {0: BATCH} if any_batch else {})
    for size in (2, 1, 3) if any_batch else (2,):
        assert_equal_outputs(module, program, tokens(case, grid, size)[0])


@each_case
def test_compiled_part_agrees(case: Case, grid: tuple[int, ...]) -> None:
    exempt(case, "compile")
    x, context = tokens(case, grid)
    module = Tokens(build(case, grid), context).eval()
    assert_equal_outputs(module, compiled(module, "eager"), x)


@each_model
def test_exported_model_agrees_for_any_batch(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    program = exported(model, pictures(model), {0: BATCH})
    for size in (2, 1, 3):
        assert_equal_outputs(model, program, pictures(model, size))


@each_sequence_model
def test_exported_model_agrees_for_any_batch_and_length(family: str, variant: str) -> None:
    """Lengths below and above a chunk or a window, multiples and others, in batches of any size."""
    model = tiny_model(family, variant, **SHALLOW.get(family, {}))
    any_length = 1 in model.specification.input.free and family not in ONE_LENGTH
    if any_length:
        model = tiny_model(family, variant, length=LONGEST, **SHALLOW.get(family, {}))

    def some(batch: int, length: int, seed: int = 0) -> Tensor:
        x = inputs(model, batch, seed)
        return x[:, :length].clone() if any_length else x

    axis = torch.export.Dim.DYNAMIC if family in UNPROVEN else LENGTH
    program = exported(model, some(2, 12), {0: BATCH, 1: axis} if any_length else {0: BATCH})
    for batch, length in ((2, 12), (1, UNPROVEN.get(family, 2)), (3, 33), (2, 64), (1, 150)):
        assert_equal_outputs(model, program, some(batch, length, seed=length))


@pytest.mark.parametrize("family", ONE_LENGTH)
def test_families_of_one_length_refuse_others(family: str) -> None:
    model = tiny_model(family, SEQUENCES[family])
    with pytest.raises(UserError, match="was made for"):
        model(inputs(model)[:, :-1])


@each_model
def test_compiled_model_agrees(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    assert_equal_outputs(model, compiled(model, "aot_eager"), pictures(model))
