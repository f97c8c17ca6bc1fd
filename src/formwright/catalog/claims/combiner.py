"""Claims of Combiner: what a token sees, outputs of the authors' code, and losses beside local and full attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.mixers import combiner_state, mixer_claims
from formwright.catalog.experiments.texts import LENGTH, small_decoder, text_contest
from formwright.measurement.macs import count_macs
from formwright.nn import build_part, part
from formwright.nn.functional.combiner import combiner_fixed_attention, combiner_logsparse_attention, levels
from formwright.nn.functional.combiner_mixture import combiner_mixture_attention
from formwright.nn.specification import ChainSpec, PartSpec
from formwright.reporting import Reporter

TOKENS, SEGMENT = 1024, 32
#: Of the texts that losses are compared on.
SMALL_SEGMENT = 8
AUTHORS = "the authors' code (google-research, combiner)"
MIXERS = tuple(f"combiner_{pattern}_attention" for pattern in ("fixed", "logsparse", "axial", "mixture"))


def _decoder(mixer: PartSpec) -> ChainSpec:
    return small_decoder(part("glu"), mixers=mixer, rotary=None, positions=part("learned_positions"))


LOSSES = text_contest(
    {
        "full": lambda: _decoder(part("attention")),
        "combiner-fixed": lambda: _decoder(part("combiner_fixed_attention", segment=SMALL_SEGMENT)),
        "combiner-logsparse": lambda: _decoder(part("combiner_logsparse_attention")),
        "combiner-axial": lambda: _decoder(part("combiner_axial_attention", columns=SMALL_SEGMENT)),
        "combiner-mixture": lambda: _decoder(part("combiner_mixture_attention", columns=SMALL_SEGMENT)),
        "local": lambda: _decoder(part("local_attention", block=SMALL_SEGMENT)),
    },
    steps=1200,
)


def _logits(reporter: Reporter) -> ClaimResult:
    """From the multiplications that are left when projections and the spans' own attention are taken away."""
    dim = 16
    mixer = build_part(part("combiner_fixed_attention", heads=1, segment=SEGMENT, causal=True), dim)
    macs = count_macs(mixer, torch.zeros(1, TOKENS, dim))
    fixed = (macs - 4 * TOKENS * dim**2 - 2 * TOKENS * dim) / (2 * TOKENS * dim)
    return ClaimResult(f"fixed {fixed:g}, logsparse {1 + levels(TOKENS)}", fixed == 64 and 1 + levels(TOKENS) == 11)


def _weights(reporter: Reporter) -> ClaimResult:
    worst, complete = 0.0, True
    for time in (8, 9, 16, 17):
        q, k = torch.randn(2, 1, time, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(time))
        values = torch.eye(time, dtype=torch.float64)[None, :, None]
        for y in (
            combiner_fixed_attention(q, k, values, segment=4),
            combiner_logsparse_attention(q, k, values),
            combiner_mixture_attention(q, k, values, columns=4),
        ):
            weights = y[0, :, 0]
            worst = max(worst, float((weights.sum(-1) - 1).abs().max()))
            complete = complete and torch.equal(weights > 0, torch.ones(time, time).tril() > 0)
    every = "every earlier token has one" if complete else "some earlier tokens have none"
    return ClaimResult(f"sums within {worst:.0e} of one, {every}", complete and worst < 1e-12)


def _nearer_full(loss: Mapping[str, float]) -> bool:
    above_full, below_local = loss["combiner-fixed"] - loss["full"], loss["local"] - loss["combiner-fixed"]
    return below_local > 0 and above_full < below_local


CLAIMS: list[Claim] = [
    Claim(
        "logits",
        "count",
        f"scores that a token needs at {TOKENS:,} tokens: fixed with segments of {SEGMENT}, and logsparse at most",
        "64 and 11",
        _logits,
    ),
    Claim(
        "weights",
        "equality",
        "weights of all earlier tokens are positive and add up to one, at 8, 9, 16 and 17 tokens, those of later ones "
        "are zero",
        "full attention (the authors' logsparse misses tokens at 9 and 17)",
        _weights,
    ),
    *mixer_claims(
        "combiner",
        dict.fromkeys(MIXERS, AUTHORS),
        dict.fromkeys(MIXERS, combiner_state),
    ),
    LOSSES.claim(
        "nearer-to-full-than-to-local",
        f"fixed Combiner's loss on {LENGTH} bytes is below that of local attention in segments of {SMALL_SEGMENT}, and "
        "nearer to full attention's, if not below it",
        holds=_nearer_full,
    ),
]
