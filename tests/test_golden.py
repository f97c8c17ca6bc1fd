"""Every published variant has its published size, and gives the outputs of the reference with the same weights.

The figures in ``tests/golden/*.json`` come from the authors' code or an independent package, run once with weights that
``tests/golden/fill.py`` derives from the parameters' names; see there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formwright.models import MODELS, create_model, empty_copy, load_checkpoint, model_specification
from tests.golden.fill import fill, images, sample

FOLDER = Path(__file__).parent / "golden"
#: Outputs are compared in the default suite for variants of at most this size; `formwright verify` compares all.
LARGEST = 13_000_000


def references() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.json")):
        yield from json.loads(path.read_text())["variants"].items()


VARIANTS = dict(references())


def reference_state(layout: list[Any], output: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The reference's weights; an output at another input size may have tables of other shapes."""
    shapes = {name: shape for name, shape, kind in layout if "float" in kind} | output.get("shapes", {})
    return {name: torch.from_numpy(fill(name, shape)).to(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    assert name in MODELS, f"{name} has reference figures and is not registered"
    assert empty_copy(model_specification(name)).parameter_count() == VARIANTS[name]["parameters"]


def output_cases() -> Iterator[Any]:
    for name, reference in VARIANTS.items():
        if reference["parameters"] <= LARGEST:
            for output in reference.get("outputs", []):
                size = "x".join(map(str, output["input_shape"][2:]))
                yield pytest.param(name, output, id=f"{name}-{size}")


@pytest.mark.parametrize(("name", "output"), output_cases())
def test_output_is_that_of_the_reference(name: str, output: dict[str, Any]) -> None:
    reference = VARIANTS[name]
    shape = output["input_shape"]
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        if dtype is torch.float32 and output.get("float32_difference", 0) > tolerance / 10 * output["std"]:
            continue  # with these weights the reference differs from itself as much: attention of one-hot softmax
        model = create_model(name, image_size=tuple(shape[2:])).to(dtype).eval()
        state = reference_state(reference["layout"], output, dtype)
        load_checkpoint(model, state)
        with torch.inference_mode():
            result = model(torch.from_numpy(images(shape, output["input_seed"])).to(dtype))
        assert list(result.shape) == output["output_shape"]
        difference = np.abs(np.array(sample(result.double().numpy())) - output["values"]).max()
        assert difference <= tolerance * output["std"], f"{difference} in {dtype}"
