"""Claims of GPT-2: sizes and outputs of transformers' models."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "distilgpt2": 81_912_576,
            "gpt2": 124_439_808,
            "gpt2_medium": 354_823_168,
            "gpt2_large": 774_030_080,
            "gpt2_xl": 1_557_611_200,
        }
    ),
    *output_claims("gpt2", "transformers"),
]
