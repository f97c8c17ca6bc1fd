"""Claims of Swin Transformer: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "swin_tiny_patch4_window7_224": 28_288_354,
            "swin_small_patch4_window7_224": 49_606_258,
            "swin_base_patch4_window7_224": 87_768_224,
            "swin_tiny_c24_patch4_window8_256": 28_306_432,
            "swin_base_patch4_window12_384": 87_903_584,
            "swin_large_patch4_window7_224": 196_532_476,
            "swin_large_patch4_window12_384": 196_735_516,
        }
    ),
    *mac_claims(
        {
            "swin_tiny_patch4_window7_224": 4.5e9,
            "swin_small_patch4_window7_224": 8.7e9,
            "swin_base_patch4_window7_224": 15.4e9,
            "swin_large_patch4_window7_224": 34.5e9,
        }
    ),
    *mac_claims({"swin_base_patch4_window12_384": 47.1e9, "swin_large_patch4_window12_384": 103.9e9}, size=384),
    *output_claims("swin", "microsoft/Swin-Transformer"),
]
