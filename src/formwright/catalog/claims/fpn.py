"""Claims of the feature pyramid: its size, and its maps as the paper draws them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.figures import parameter_claims
from formwright.models import create_model
from formwright.models.topologies.pyramid import Pyramid
from formwright.reporting import Reporter

SIDES = (128, 96)
TOLERANCE = 1e-9


def drawn_maps(model: Pyramid, maps: list[Tensor]) -> list[Tensor]:
    """The pyramid over ``maps``, channels first, each half as fine as the one before, written plainly.

    From the coarsest on: a convolution of 1 x 1, plus the coarser sum with each value four times; then one of 3 x 3.
    """
    sums: list[Tensor] = []
    for x, layer in zip(reversed(maps), reversed(list(model.neck.lateral)), strict=True):
        y = F.conv2d(x, layer.conv.weight, layer.conv.bias)  # type: ignore[union-attr, arg-type]
        sums.insert(0, y if not sums else y + F.interpolate(sums[0], scale_factor=2, mode="nearest"))
    return [
        F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)  # type: ignore[union-attr, arg-type]
        for x, layer in zip(sums, model.neck.output, strict=True)
    ]


def _maps_as_drawn(reporter: Reporter) -> ClaimResult:
    torch.manual_seed(0)
    model = create_model("resnet18_fpn").double().eval()
    assert isinstance(model, Pyramid)
    x = torch.randn(1, 3, *SIDES, dtype=torch.float64)
    with torch.inference_mode():
        expected = drawn_maps(model, [each.movedim(-1, 1) for each in model.features(x)[: len(model.neck.stages)]])
        found = list(model(x).values())
    worst = max(float((ours - plain).abs().max()) for ours, plain in zip(found, expected, strict=True))
    return ClaimResult(f"largest difference {worst:.1e}", worst < TOLERANCE, f"{SIDES[0]} x {SIDES[1]}, float64")


CLAIMS: list[Claim] = [
    *parameter_claims({"resnet50_fpn": 23_508_032 + 3_344_384}),
    Claim(
        id="maps-as-drawn",
        kind="equality",
        statement="resnet18_fpn gives the sums and convolutions of the paper's figure, computed plainly",
        published="the same",
        run=_maps_as_drawn,
    ),
]
