"""Claims of iFormer: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"iformer_small": 19_866_344, "iformer_base": 47_866_216, "iformer_large": 86_637_096}),
    *mac_claims({"iformer_small": 4.83e9, "iformer_base": 9.34e9, "iformer_large": 14.0e9}),
    *mac_claims({"iformer_small_384": 16.1e9, "iformer_base_384": 30.5e9, "iformer_large_384": 45.3e9}, size=384),
    *output_claims("iformer", "sail-sg/iFormer"),
]
