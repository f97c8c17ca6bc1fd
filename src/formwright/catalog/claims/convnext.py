"""Claims of ConvNeXt: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "convnext_tiny": 28_589_128,
            "convnext_small": 50_223_688,
            "convnext_base": 88_591_464,
            "convnext_large": 197_767_336,
            "convnext_xlarge": 350_196_968,
            "convnext_isotropic_small": 22_308_712,
            "convnext_isotropic_base": 87_083_752,
            "convnext_isotropic_large": 305_905_640,
        }
    ),
    *mac_claims(
        {
            "convnext_tiny": 4.46e9,
            "convnext_small": 8.68e9,
            "convnext_base": 15.4e9,
            "convnext_large": 34.4e9,
            "convnext_xlarge": 60.9e9,
            "convnext_isotropic_small": 4.3e9,
            "convnext_isotropic_base": 16.9e9,
            "convnext_isotropic_large": 59.7e9,
        }
    ),
    *mac_claims(
        {
            "convnext_tiny": 13.1e9,
            "convnext_small": 25.5e9,
            "convnext_base": 45.0e9,
            "convnext_large": 101.0e9,
            "convnext_xlarge": 179.0e9,
        },
        size=384,
    ),
    *output_claims("convnext", "facebookresearch/ConvNeXt"),
]
