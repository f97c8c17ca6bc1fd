"""Every published variant has its published size, and gives the outputs of the reference with the same weights.

The figures in ``formwright/catalog/golden/*.json`` come from the authors' code or an independent package, run once with
weights that are derived from the parameters' names; see ``formwright/catalog/reference.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from formwright.batch import moved
from formwright.catalog.reference import (
    comparable_outputs,
    output_differences,
    reference_specification,
    reference_systems,
    reference_variants,
    tolerances,
)
from formwright.cli.listing import listed
from formwright.measurement.macs import count_macs
from formwright.models import MODELS, empty_copy
from formwright.models.identification import body, body_sizes, values_of
from formwright.nn.specification import NetworkSpec

#: Multiply-accumulates and outputs are compared in the default suite for variants of at most this size, and for the
#: smallest of each system that has none; `formwright verify` compares all.
LARGEST = 13_000_000
SMALLEST_OF_THEIR_KIND = {
    "caformer_s18",
    "convformer_s18",
    "convnext_isotropic_small:layer_scale",
    "convnext_tiny",
    "cvt-13",
    "dit_s_2",
    "iformer_small",
    "resnet50",
    "swin_tiny_patch4_window7_224",
}
#: timm's model of this name pools before its last norm: its outputs are those of another function.
OTHERWISE_IN_TIMM = {"poolformer_s12"}
#: The epsilon of a norm in the head of these is another in timm (1e-6 instead of 1e-5).
ALMOST_IN_TIMM = {"caformer_s18", "convformer_s18"}


LISTED = {row.name: row.parameters for row in listed()}
VARIANTS = {name: figures for system in reference_systems() for name, figures in reference_variants(system).items()}


def specification(name: str, **changes: Any) -> NetworkSpec:
    return reference_specification(name, VARIANTS[name], **changes)


def is_small(name: str) -> bool:
    return VARIANTS[name]["parameters"] <= LARGEST or name in SMALLEST_OF_THEIR_KIND


def is_listed_like_this(name: str) -> bool:
    """Whether the figures are those of a named model as it is listed, with none of its options changed."""
    return name in LISTED and not VARIANTS[name].get("changes")


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    assert name.partition(":")[0] in MODELS, f"{name} has reference figures and is not registered"
    model = empty_copy(specification(name))
    reference = VARIANTS[name]
    count = model.parameter_count()
    assert count == reference["parameters"] - reference.get("unused_parameters", 0)
    if is_listed_like_this(name):
        assert count == LISTED[name], "run python -m formwright.models.variants"
        assert values_of(body(model.state_dict())) == body_sizes()[name]
    if "frozen_parameters" in reference:
        assert model.parameter_count(trainable=True) == reference["parameters"] - reference["frozen_parameters"]


@pytest.mark.parametrize("name", [name for name in VARIANTS if is_small(name) and VARIANTS[name].get("macs")])
def test_macs_are_the_published_ones(name: str) -> None:
    for side, macs in VARIANTS[name]["macs"].items():
        model = empty_copy(specification(name, image_size=int(side)))
        example = moved(model.example(1), torch.device("meta"))
        assert count_macs(model, example) == pytest.approx(macs, rel=0.01)


def output_cases() -> Iterator[Any]:
    for name, figures in VARIANTS.items():
        if is_small(name):
            for output in comparable_outputs(figures):
                shape = output["input_shape"]
                size = "x".join(map(str, shape[2:])) if len(shape) == 4 else f"{shape[1]}steps"
                yield pytest.param(name, "layout", output, id=f"{name}-{size}")
            if name not in OTHERWISE_IN_TIMM:
                for output in figures.get("timm_outputs", [])[:1]:
                    yield pytest.param(name, "timm_layout", output, id=f"{name}-timm")


@pytest.mark.parametrize(("name", "layout", "output"), output_cases())
def test_output_is_that_of_the_reference(name: str, layout: str, output: dict[str, Any]) -> None:
    limits = tolerances(output)
    if layout == "timm_layout" and name in ALMOST_IN_TIMM:
        limits = dict.fromkeys(limits, 1e-4)
    assert limits, "there is something to compare in"
    for dtype, difference in output_differences(name, VARIANTS[name], output, limits, layout=layout).items():
        assert difference <= limits[dtype], f"{difference} in {dtype}"
