"""Claims of Llama: sizes and outputs of transformers' models."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "tinyllama_1_1b": 1_100_048_384,
            "llama_7b": 6_738_415_616,
            "llama2_7b": 6_738_415_616,
            "llama2_13b": 13_015_864_320,
            "llama3_8b": 8_030_261_248,
            "llama3_2_1b": 1_235_814_400,
            "llama3_2_3b": 3_212_749_824,
        }
    ),
    *output_claims("llama", "transformers"),
]
