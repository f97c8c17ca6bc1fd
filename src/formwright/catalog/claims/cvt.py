"""Claims of CvT: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"cvt-13": 19_997_480, "cvt-21": 31_622_696, "cvt-w24": 277_196_392}),
    *mac_claims({"cvt-13": 4.57e9, "cvt-21": 7.18e9}),
    *mac_claims({"cvt-13": 16.3e9, "cvt-21": 24.9e9, "cvt-w24": 193.2e9}, size=384),
    *output_claims("cvt", "microsoft/CvT"),
]
