"""Claims of ESPCN: the sizes of its networks, and that it enlarges better than bicubic interpolation."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.experiments.restoration import enlarging_contest
from formwright.catalog.figures import parameter_claims
from formwright.models.restoration.espcn import espcn

SCALE = 3

ENLARGING = enlarging_contest(
    {
        "ESPCN": lambda: espcn(scale=SCALE),
        "ESPCN with a global skip": lambda: espcn(scale=SCALE, skip=True),
    },
    scale=SCALE,
)

CLAIMS: list[Claim] = [
    *parameter_claims({"espcn_x2": 21_284, "espcn_x3": 22_729, "espcn_x4": 24_752}),
    ENLARGING.claim(
        "psnr-above-bicubic",
        "photographs enlarged by ESPCN are nearer to the true ones than bicubic enlargement",
        holds=lambda gain: gain["ESPCN"] > 0,
    ),
]
