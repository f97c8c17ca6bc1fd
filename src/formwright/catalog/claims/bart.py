"""Claims of BART: sizes, outputs and texts of transformers' models, and streams with a memory."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.experiments.writing import stream_claim, text_claims
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims({"bart_base": 139_420_416, "bart_large": 406_291_456}),
    *output_claims("bart", "transformers"),
    *text_claims("bart", "transformers"),
    stream_claim("bart_base", {"depth": 2}),
]
