"""Claims of the fast networks of CIFAR-10: sizes and outputs of the authors' networks."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"airbench94": 1_972_792, "airbench96": 9_918_776}),
    *output_claims("airbench", "the authors' code"),
]
