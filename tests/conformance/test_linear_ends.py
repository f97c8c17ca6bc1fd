"""Layers that a part says it reads and writes by are the only ones that do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from formwright.nn.edits.norms import map_input, map_output
from tests.conformance.instances import Case, build, call, cases, tokens

MAP = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 4


def linear_cases() -> Iterator[Any]:
    """Cases of mixers that say by which layers they read and write."""
    for case in cases():
        try:
            part = build(case, case.grids[0])
        except pytest.fail.Exception:  # reported, with what to do, by every other check
            continue
        if part.input_layers and part.output_layers:
            yield pytest.param(case, id=str(case))


each_case = pytest.mark.parametrize("case", list(linear_cases()))


@each_case
def test_a_map_of_what_is_read_is_one_of_these_layers(case: Case) -> None:
    part, mapped = (build(case, case.grids[0]) for _ in range(2))
    x, context = tokens(case, case.grids[0])
    map_input(mapped, MAP)
    expected = call(part, x @ MAP.T, context)[0]
    torch.testing.assert_close(call(mapped, x, context)[0], expected, rtol=1e-9, atol=1e-9)


@each_case
def test_a_map_of_what_is_written_is_one_of_these_layers(case: Case) -> None:
    part, mapped = (build(case, case.grids[0]) for _ in range(2))
    x, context = tokens(case, case.grids[0])
    map_output(mapped, MAP)
    expected = call(part, x, context)[0] @ MAP.T
    torch.testing.assert_close(call(mapped, x, context)[0], expected, rtol=1e-9, atol=1e-9)
