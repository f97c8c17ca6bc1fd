"""Claims that are figures: published counts, and the outputs of other people's code."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

from formwright.batch import moved
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    Figures,
    comparable_outputs,
    output_differences,
    reference_variants,
    tolerances,
)
from formwright.measurement.macs import count_macs
from formwright.models import empty_copy, model_specification
from formwright.reporting import Reporter

MACS_TOLERANCE = 0.01
#: Comparing the outputs of larger models takes minutes for all variants of a family.
QUICK_PARAMETERS = 13_000_000


def parameter_claims(published: Mapping[str, int]) -> list[Claim]:
    """Exact parameter counts, frozen ones included, by variant."""

    def run(variant: str, expected: int, reporter: Reporter) -> ClaimResult:
        count = empty_copy(model_specification(variant)).parameter_count()
        return ClaimResult(f"{count:,}", count == expected)

    return [
        Claim(
            id=f"parameters:{variant}",
            kind="count",
            statement=f"parameters of {variant}",
            published=f"{count:,}",
            run=functools.partial(run, variant, count),
        )
        for variant, count in published.items()
    ]


def mac_claims(published: Mapping[str, float], *, size: int = 224) -> list[Claim]:
    """Multiply-accumulates of one square image, by variant; they hold within a hundredth.

    Matrix products, convolutions and attention's products count; norms, activations, biases and pooling do not, as in
    the figures that papers give.
    """

    def run(variant: str, expected: float, reporter: Reporter) -> ClaimResult:
        model = empty_copy(model_specification(variant, image_size=size))
        macs = count_macs(model, moved(model.example(1), torch.device("meta")))
        return ClaimResult(f"{macs / 1e9:.4g} G", abs(macs / expected - 1) <= MACS_TOLERANCE)

    return [
        Claim(
            id=f"macs:{variant}-{size}",
            kind="count",
            statement=f"multiply-accumulates of {variant} at {size} x {size}, within {MACS_TOLERANCE:.0%}",
            published=f"{macs / 1e9:.4g} G",
            run=functools.partial(run, variant, macs),
        )
        for variant, macs in published.items()
    ]


def output_claims(system: str, whose: str) -> list[Claim]:
    """Equal outputs with equal weights, randomised, loaded from the reference's own parameter names.

    Args:
        system: the name of its reference figures.
        whose: whose code the figures come from, as a person would say it.
    """
    return [
        Claim(
            id=f"outputs:{variant}",
            kind="equality",
            statement=f"{variant} gives the outputs of {whose} with the same weights (largest difference over their "
            f"standard deviation at most {FLOAT64_TOLERANCE:g} in float64 and {FLOAT32_TOLERANCE:g} in float32)",
            published="equal",
            run=functools.partial(_compare, variant, figures),
            slow=figures["parameters"] > QUICK_PARAMETERS,
        )
        for variant, figures in reference_variants(system).items()
        if comparable_outputs(figures)
    ]


def _compare(variant: str, figures: Figures, reporter: Reporter) -> ClaimResult:
    worst: dict[torch.dtype, float] = {}
    holds, details = True, []
    outputs = comparable_outputs(figures)
    for index, output in enumerate(outputs):
        shape = output["input_shape"]
        side = " x ".join(map(str, shape[2:])) if len(shape) == 4 else f"{shape[1]} steps"
        limits = tolerances(output)
        if torch.float32 not in limits:
            details.append(f"at {side} the reference's own float32 run differs from its float64 run as much")
        for dtype, difference in output_differences(variant, figures, output, limits).items():
            worst[dtype] = max(worst.get(dtype, 0.0), difference)
            holds = holds and difference <= limits[dtype]
        reporter.progress((index + 1) / len(outputs), f"{variant} at {side}")
    measured = ", ".join(f"{value:.1e} in {str(dtype).removeprefix('torch.')}" for dtype, value in worst.items())
    return ClaimResult(measured, holds, "; ".join(details))
