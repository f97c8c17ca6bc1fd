"""Claims of ViT and DeiT: sizes and outputs of timm's models."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "vit_tiny_patch16_224": 5_717_416,
            "vit_small_patch16_224": 22_050_664,
            "vit_base_patch16_224": 86_567_656,
            "deit_tiny_patch16_224": 5_717_416,
            "deit_small_patch16_224": 22_050_664,
            "deit_base_patch16_224": 86_567_656,
            "deit_tiny_distilled_patch16_224": 5_910_800,
            "deit_small_distilled_patch16_224": 22_436_432,
            "deit_base_distilled_patch16_224": 87_338_192,
        }
    ),
    *mac_claims({"vit_tiny_patch16_224": 1.25e9, "vit_small_patch16_224": 4.60e9, "vit_base_patch16_224": 17.6e9}),
    *mac_claims({"vit_base_patch16_224": 55.5e9}, size=384),
    *output_claims("vit", "timm"),
]
