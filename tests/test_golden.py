"""Every published variant has its published size, and gives the outputs of the reference with the same weights.

The figures in ``tests/golden/*.json`` come from the authors' code or an independent package, run once with weights that
``formwright.catalog.reference`` derives from the parameters' names; see there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formwright.catalog.reference import images, reference_state, sample
from formwright.measurement.macs import count_macs
from formwright.models import MODELS, create_model, empty_copy, load_checkpoint, model_specification
from formwright.nn.specification import ModelSpec

FOLDER = Path(__file__).parent / "golden"
#: Outputs are compared in the default suite for variants of at most this size, and for the smallest of each system that
#: has none; `formwright verify` compares all.
LARGEST = 13_000_000
SMALLEST_OF_THEIR_KIND = {
    "caformer_s18",
    "convformer_s18",
    "convnext_isotropic_small:layer_scale",
    "convnext_tiny",
    "cvt-13",
    "iformer_small",
    "resnet50",
    "swin_tiny_patch4_window7_224",
}
#: timm's model of this name pools before its last norm: its outputs are those of another function.
OTHERWISE_IN_TIMM = {"poolformer_s12"}
#: The epsilon of a norm in the head of these is another in timm (1e-6 instead of 1e-5).
ALMOST_IN_TIMM = {"caformer_s18", "convformer_s18"}


def references() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.json")):
        yield from json.loads(path.read_text())["variants"].items()


VARIANTS = dict(references())


def specification(name: str, **changes: Any) -> ModelSpec:
    """Of the variant ``name``; what follows a colon distinguishes references that were built with other options."""
    return model_specification(name.partition(":")[0], **VARIANTS[name].get("changes", {}), **changes)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    assert name.partition(":")[0] in MODELS, f"{name} has reference figures and is not registered"
    model = empty_copy(specification(name))
    reference = VARIANTS[name]
    assert model.parameter_count() == reference["parameters"]
    if "frozen_parameters" in reference:
        assert model.parameter_count(trainable=True) == reference["parameters"] - reference["frozen_parameters"]


@pytest.mark.parametrize("name", VARIANTS)
def test_macs_are_the_published_ones(name: str) -> None:
    for side, macs in VARIANTS[name]["macs"].items():
        model = empty_copy(specification(name, image_size=int(side)))
        images = torch.zeros(1, 3, int(side), int(side), device="meta")
        assert count_macs(model, images) == pytest.approx(macs, rel=0.01)


def output_cases() -> Iterator[Any]:
    for name, reference in VARIANTS.items():
        if reference["parameters"] <= LARGEST or name in SMALLEST_OF_THEIR_KIND:
            for output in reference.get("outputs", []):
                if set(output.get("build", {})) - {"img_size"}:  # other options: in the family's own tests
                    continue
                size = "x".join(map(str, output["input_shape"][2:]))
                yield pytest.param(name, "layout", output, id=f"{name}-{size}")
            if name not in OTHERWISE_IN_TIMM:
                for output in reference.get("timm_outputs", [])[:1]:
                    yield pytest.param(name, "timm_layout", output, id=f"{name}-timm")


@pytest.mark.parametrize(("name", "layout", "output"), output_cases())
def test_output_is_that_of_the_reference(name: str, layout: str, output: dict[str, Any]) -> None:
    shape = output["input_shape"]
    options = {"image_size": tuple(shape[2:])} | output.get("changes", {})
    model = create_model(specification(name, **options)).double().eval()
    load_checkpoint(
        model, reference_state(VARIANTS[name][layout], output.get("shapes"), rounded=output.get("rounded", False))
    )
    pictures = torch.from_numpy(images(shape, output["input_seed"]))
    # A reference that computes its norms in float32 is exact to no more than that.
    inexact = output.get("dtype") == "float32" or (layout == "timm_layout" and name in ALMOST_IN_TIMM)
    exact = 1e-4 if inexact else 1e-9
    for dtype, tolerance in ((torch.float64, exact), (torch.float32, 1e-4)):
        if dtype is torch.float32 and output.get("float32_difference", 0) > tolerance / 10 * output["std"]:
            continue  # with these weights the reference differs from itself as much: attention of one-hot softmax
        with torch.inference_mode():
            result = model.to(dtype)(pictures.to(dtype))
        assert list(result.shape) == output["output_shape"]
        difference = np.abs(np.array(sample(result.double().numpy())) - output["values"]).max()
        assert difference <= tolerance * output["std"], f"{difference} in {dtype}"
