"""Claims of the U-Nets: sizes and outputs of MONAI's ``BasicUNet``."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"monai_basic_unet_2d": 1_978_466, "monai_basic_unet_3d": 5_749_410}),
    *mac_claims({"monai_basic_unet_2d": 695_697_408}, size=96),
    *output_claims("unet", "MONAI"),
]
