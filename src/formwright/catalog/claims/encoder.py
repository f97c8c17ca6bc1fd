"""Claims of the encoder: padding is as if it were not there."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from formwright.catalog.claim import Claim, ClaimResult
from formwright.models import create_model
from formwright.models.language.transformer import BYTES_PADDING
from formwright.reporting import Reporter

LIMIT = 1e-9


@torch.inference_mode()
def _padding(reporter: Reporter) -> ClaimResult:
    torch.manual_seed(0)
    model = create_model("encoder_tiny").double().eval()
    ids = torch.randint(256, (2, 50), generator=torch.Generator().manual_seed(0))
    expected = model(ids)
    difference = float((model(F.pad(ids, (0, 30), value=BYTES_PADDING)) - expected).abs().max())
    return ClaimResult(f"{difference:.1e}", difference <= LIMIT)


CLAIMS: list[Claim] = [
    Claim(
        id="padding-changes-nothing",
        kind="equality",
        statement=f"padding behind a text changes its scores by at most {LIMIT:g} in float64",
        published="equal",
        run=_padding,
    )
]
