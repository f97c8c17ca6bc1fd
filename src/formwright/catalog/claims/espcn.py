"""Claims of ESPCN: the sizes of its networks, what its layer equals, and that it is better than bicubic enlargement."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.restoration import enlarging_contest
from formwright.catalog.figures import parameter_claims
from formwright.models import create_model
from formwright.models.restoration.espcn import espcn
from formwright.nn.pixel_shuffle import transposed_from_sub_pixel
from formwright.reporting import Reporter

SCALE = 3

ENLARGING = enlarging_contest(
    {
        "ESPCN": lambda: espcn(scale=SCALE),
        "ESPCN with a global skip": lambda: espcn(scale=SCALE, skip=True),
    },
    scale=SCALE,
)


@torch.inference_mode()
def _transposed(reporter: Reporter) -> ClaimResult:
    """The last layer of each published network beside a transposed convolution with the same weights."""
    torch.manual_seed(0)
    worst = 0.0
    for scale in (2, 3, 4):
        head = create_model(f"espcn_x{scale}").double().get_submodule("head")
        weight = head.get_parameter("conv.weight")
        head.get_parameter("conv.bias").zero_()  # a transposed convolution has one bias for all places of a cell
        x = torch.randn(2, 9, 14, weight.shape[1], dtype=torch.float64)
        padding = scale * (weight.shape[-1] - 1) // 2
        theirs = F.conv_transpose2d(
            x.movedim(-1, 1), transposed_from_sub_pixel(weight, scale), stride=scale, padding=padding
        )
        worst = max(worst, float((head(x) - theirs).abs().max()))
    details = "random features of 9 x 14, scales of 2, 3 and 4, float64"
    return ClaimResult(f"differs by at most {worst:.1e}", worst < 1e-12, details)


CLAIMS: list[Claim] = [
    *parameter_claims({"espcn_x2": 21_284, "espcn_x3": 22_729, "espcn_x4": 24_752}),
    Claim(
        id="sub-pixel-equals-transposed",
        kind="equality",
        statement="the sub-pixel layer is a convolution that is transposed, with a stride of the scale",
        published="the same",
        run=_transposed,
    ),
    ENLARGING.claim(
        "psnr-above-bicubic",
        "photographs enlarged by ESPCN are nearer to the true ones than bicubic enlargement",
        holds=lambda gain: gain["ESPCN"] > 0,
    ),
]
