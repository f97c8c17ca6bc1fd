"""Claims of Transformer-XL: the sizes that its paper rounds to millions, and the outputs of the authors' code."""

from __future__ import annotations

import functools

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import parameters
from formwright.catalog.figures import output_claims
from formwright.models import model_specification
from formwright.reporting import Reporter


def _rounded(variant: str, millions: int, reporter: Reporter) -> ClaimResult:
    count = parameters(model_specification(variant))
    return ClaimResult(f"{count:,}", round(count / 1e6) == millions)


CLAIMS: list[Claim] = [
    *(
        Claim(
            id=f"sizes:{variant}",
            kind="count",
            statement=f"parameters of {variant}, rounded to millions",
            published=f"{millions} M",
            run=functools.partial(_rounded, variant, millions),
        )
        for variant, millions in (("transformer_xl_enwik8_12", 41), ("transformer_xl_enwik8_24", 277))
    ),
    *output_claims("transformer-xl", "kimiyoung/transformer-xl"),
]
