"""Claims of DLinear and NLinear: sizes of the paper, outputs of the authors' code."""

from __future__ import annotations

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.models import empty_copy, model_specification
from formwright.reporting import Reporter

#: The paper's table of efficiency, at a look-back of 96 and a horizon of 720.
PUBLISHED = 139_680


def _at_720(reporter: Reporter) -> ClaimResult:
    count = empty_copy(model_specification("dlinear", horizon=720)).parameter_count()
    return ClaimResult(f"{count:,}", count == PUBLISHED)


CLAIMS: list[Claim] = [
    *parameter_claims({"dlinear": 18_624, "nlinear": 9_312}),
    Claim(
        id="parameters-at-720",
        kind="count",
        statement="parameters of dlinear at a horizon of 720 (139.7 K in the paper)",
        published=f"{PUBLISHED:,}",
        run=_at_720,
    ),
    *output_claims("dlinear", "cure-lab/LTSF-Linear"),
]
