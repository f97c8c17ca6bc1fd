"""Claims of PoolFormer: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "poolformer_s12": 11_915_176,
            "poolformer_s24": 21_388_968,
            "poolformer_s36": 30_862_760,
            "poolformer_m36": 56_172_520,
            "poolformer_m48": 73_473_448,
            "metaformer_id_s12": 11_915_176,
            "metaformer_pppa_s12_224": 14_038_440,
            "metaformer_ppaa_s12_224": 16_535_592,
            "metaformer_pppf_s12_224": 11_919_978,
            "metaformer_ppff_s12_224": 12_150_474,
        }
    ),
    *mac_claims(
        {
            "poolformer_s12": 1.81e9,
            "poolformer_s24": 3.39e9,
            "poolformer_s36": 4.97e9,
            "poolformer_m36": 8.76e9,
            "poolformer_m48": 11.53e9,
            "metaformer_id_s12": 1.81e9,
            "metaformer_pppa_s12_224": 1.92e9,
            "metaformer_ppaa_s12_224": 2.55e9,
            "metaformer_pppf_s12_224": 1.82e9,
            "metaformer_ppff_s12_224": 1.89e9,
        }
    ),
    *output_claims("poolformer", "sail-sg/poolformer"),
]
