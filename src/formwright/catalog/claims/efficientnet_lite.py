"""Claims of EfficientNet-Lite: sizes that the authors' README rounds, and outputs of a port of their code."""

from __future__ import annotations

from formwright.catalog.claim import Claim
from formwright.catalog.figures import output_claims, parameter_claims

CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "efficientnet_lite0": 4_652_008,
            "efficientnet_lite1": 5_416_680,
            "efficientnet_lite2": 6_092_072,
            "efficientnet_lite3": 8_197_096,
            "efficientnet_lite4": 13_006_568,
        }
    ),
    *output_claims("efficientnet-lite", "efficientnet-lite-pytorch"),
]
