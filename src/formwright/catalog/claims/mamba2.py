"""Claims of Mamba-2: sizes, outputs of transformers, and forms of one recurrence that agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.nn.functional.ssd import ssd, ssd_step
from formwright.reporting import Reporter

LENGTHS, CHUNKS, GROUPS = (1, 63, 256, 300), (16, 64), (1, 2)


def _operands(time: int, groups: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(time)
    x, written, read = (
        torch.randn(2, time, count, channels, generator=generator)
        for count, channels in ((4, 8), (groups, 16), (groups, 16))
    )
    delta = F.softplus(torch.randn(2, time, 4, generator=generator) - 2)
    return x, delta, -torch.rand(4, generator=generator) * 8, written, read


def _steps(x: Tensor, delta: Tensor, rates: Tensor, written: Tensor, read: Tensor) -> Tensor:
    """The recurrence, a token after the other."""
    state, outputs = x.new_zeros(2, 4, 8, 16), []
    for t in range(x.shape[1]):
        y, state = ssd_step(x[:, t], delta[:, t], rates, written[:, t], read[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, dim=1)


@torch.inference_mode()
def _forms_agree(reporter: Reporter) -> ClaimResult:
    worst = 0.0
    for time in LENGTHS:
        for groups in GROUPS:
            operands = _operands(time, groups)
            recurrent = _steps(*operands)
            for chunk in (*CHUNKS, time):  # a single chunk is the quadratic form
                y, _ = ssd(*operands, chunk=chunk)
                worst = max(worst, float((y - recurrent).abs().max() / recurrent.abs().max()))
    return ClaimResult(f"{worst:.1e}", worst <= 1e-4)


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "mamba2_130m": 128_989_632,
            "mamba2_370m": 368_346_624,
            "mamba2_780m": 780_161_280,
            "mamba2_1.3b": 1_343_757_312,
            "mamba2_2.7b": 2_702_599_680,
        }
    ),
    *output_claims("mamba2", "transformers"),
    Claim(
        id="forms-agree",
        kind="equality",
        statement="the recurrent, quadratic and chunked form give the same in float32, to 1e-4 of the largest value",
        published="equal",
        run=_forms_agree,
    ),
]
