"""Claims of gated linear attention: sizes of flash-linear-attention's configurations, and its outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"gla_340m": 341_707_776, "gla_1.3b": 1_365_514_240}),
    *output_claims("gla", "fla-org/flash-linear-attention"),
]
