"""Claims of EfficientViT: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "efficientvit_m0": 2_349_436,
            "efficientvit_m1": 2_980_560,
            "efficientvit_m2": 4_187_554,
            "efficientvit_m3": 6_900_722,
            "efficientvit_m4": 8_804_228,
            "efficientvit_m5": 12_473_772,
            "efficientvit_m0_distilled": 2_542_820,
        }
    ),
    *mac_claims(
        {
            "efficientvit_m0": 79e6,
            "efficientvit_m1": 167e6,
            "efficientvit_m2": 201e6,
            "efficientvit_m3": 263e6,
            "efficientvit_m4": 299e6,
            "efficientvit_m5": 522e6,
        }
    ),
    *output_claims("efficientvit", "microsoft/Cream"),
]
