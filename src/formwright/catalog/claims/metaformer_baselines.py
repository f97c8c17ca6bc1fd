"""Claims of the MetaFormer baselines: sizes of the README and the authors' code, and their outputs."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "identityformer_s12": 11_891_712,
            "identityformer_s24": 21_341_464,
            "identityformer_s36": 30_791_216,
            "identityformer_m36": 56_077_168,
            "identityformer_m48": 73_346_056,
            "randformer_s12": 12_127_010,
            "randformer_s24": 21_812_060,
            "randformer_s36": 31_497_110,
            "randformer_m36": 56_783_062,
            "randformer_m48": 74_287_248,
            "poolformerv2_s12": 11_891_712,
            "poolformerv2_s24": 21_341_464,
            "poolformerv2_s36": 30_791_216,
            "poolformerv2_m36": 56_077_168,
            "poolformerv2_m48": 73_346_056,
            "convformer_s18": 26_774_448,
            "convformer_s36": 40_012_152,
            "convformer_m36": 57_051_640,
            "convformer_b36": 99_882_616,
            "caformer_s18": 26_341_656,
            "caformer_s36": 39_297_102,
            "caformer_m36": 56_204_878,
            "caformer_b36": 98_753_614,
        }
    ),
    *mac_claims(
        {
            "identityformer_s12": 1.81e9,
            "identityformer_s24": 3.39e9,
            "identityformer_s36": 4.97e9,
            "identityformer_m36": 8.76e9,
            "identityformer_m48": 11.5e9,
            "randformer_s12": 1.89e9,
            "randformer_s24": 3.54e9,
            "randformer_s36": 5.20e9,
            "randformer_m36": 9.04e9,
            "randformer_m48": 11.9e9,
            "poolformerv2_s12": 1.81e9,
            "poolformerv2_s24": 3.39e9,
            "poolformerv2_s36": 4.97e9,
            "poolformerv2_m36": 8.76e9,
            "poolformerv2_m48": 11.5e9,
            "convformer_s18": 3.94e9,
            "convformer_s36": 7.64e9,
            "convformer_m36": 12.8e9,
            "convformer_b36": 22.6e9,
            "caformer_s18": 4.11e9,
            "caformer_s36": 7.97e9,
            "caformer_m36": 13.2e9,
            "caformer_b36": 23.2e9,
        }
    ),
    *output_claims("metaformer-baselines", "sail-sg/metaformer"),
]
