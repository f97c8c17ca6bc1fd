"""Claims of T5: sizes, outputs and texts of transformers' models, and streams with a memory."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.experiments.writing import stream_claim, text_claims
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "t5_small": 60_506_624,
            "t5_base": 222_903_552,
            "t5_large": 737_668_096,
            "t5_3b": 2_851_598_336,
            "t5_11b": 11_307_321_344,
            "t5_v1_1_small": 76_961_152,
            "t5_v1_1_base": 247_577_856,
            "t5_v1_1_large": 783_150_080,
            "t5_v1_1_xl": 2_849_757_184,
            "t5_v1_1_xxl": 11_135_332_352,
        }
    ),
    *output_claims("t5", "transformers"),
    *text_claims("t5", "transformers"),
    stream_claim("t5_small", {"depth": 2}),
]
