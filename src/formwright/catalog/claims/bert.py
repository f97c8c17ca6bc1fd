"""Claims of BERT: sizes and outputs of transformers' models."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "bert_tiny": 4_416_698,
            "bert_mini": 11_201_594,
            "bert_small": 28_795_194,
            "bert_medium": 41_404_730,
            "bert_base_uncased": 109_514_298,
            "bert_large_uncased": 335_174_458,
            "bert_base_cased": 108_340_804,
            "bert_large_cased": 333_610_308,
        }
    ),
    *output_claims("bert", "transformers"),
]
