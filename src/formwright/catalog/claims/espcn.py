"""Claims of ESPCN: the sizes of its networks."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"espcn_x2": 21_284, "espcn_x3": 22_729, "espcn_x4": 24_752}),
]
