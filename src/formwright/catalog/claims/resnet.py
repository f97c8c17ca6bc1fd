"""Claims of the residual networks: sizes and outputs of timm's and torchvision's models."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160}
    ),
    *mac_claims({"resnet18": 1.81e9, "resnet34": 3.66e9, "resnet50": 4.09e9, "resnet101": 7.80e9}),
    *output_claims("resnet", "timm"),
]
