"""Claims of the fast networks of CIFAR-10: sizes of the authors' networks."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import parameter_claims

CLAIMS: list[Claim] = [*parameter_claims({"airbench94": 1_972_792, "airbench96": 12_721_208})]
