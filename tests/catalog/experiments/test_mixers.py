"""Mixers give the outputs of other people's code with the same weights; the figures are kept, their code is not."""

from __future__ import annotations

import pytest
import torch

from formwright.catalog.experiments.mixers import (
    combiner_state,
    linformer_state,
    mixer_difference,
    tolerances,
    transformers_state,
)
from formwright.catalog.reference import reference_figures

CASES = {
    "combiner": combiner_state,
    "long-range-arena": transformers_state,
}


@pytest.mark.parametrize(
    ("system", "name", "dtype", "limit"),
    [
        pytest.param(system, name, dtype, limit, id=f"{name}-{dtype}")
        for system in CASES
        for name, figures in reference_figures(system)["modules"].items()
        for dtype, limit in tolerances(figures).items()
    ],
)
def test_outputs_are_those_of_the_reference(system: str, name: str, dtype: torch.dtype, limit: float) -> None:
    figures = reference_figures(system)["modules"][name]
    convert = linformer_state if name == "linformer_attention" else CASES[system]
    assert mixer_difference(name, figures, convert, dtype) <= limit
