"""Claims of NAS on efficient Transformers about its mixers: cosFormer's forms and cost, and mixing it with softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.texts import small_decoder, text_contest
from formwright.measurement.macs import count_macs
from formwright.nn import build_part, part
from formwright.nn.functional.linear_attention import causal_linear_attention, linear_attention
from formwright.nn.functional.random_features import cosine_features
from formwright.nn.specification import ChainSpec, PartSpec
from formwright.reporting import Reporter

LENGTHS = (1, 2, 17, 64, 200)
TOLERANCE = 1e-9
#: Nats a byte within which two losses are comparable.
LEVEL = 0.03
DIM, HEADS, TOKENS = 64, 1, 1024


def _difference(time: int, causal: bool) -> float:
    generator = torch.Generator().manual_seed(time)
    q, k, v = torch.randn(3, 2, time, 2, 8, dtype=torch.float64, generator=generator)
    q, k = q.abs(), k.abs()
    places = torch.arange(time)
    phi_q, phi_k = (cosine_features(x, places[None], time) for x in (q, k))
    if causal:
        y = causal_linear_attention(phi_q, phi_k, v, normalize=True)[0]
    else:
        y = linear_attention(phi_q, phi_k, v, normalize=True)
    weights = torch.einsum("bqhc,bkhc->bhqk", q, k)
    weights = weights * torch.cos(math.pi / 2 * (places[:, None] - places).double() / time)
    weights = weights.tril() if causal else weights
    expected = torch.einsum("bhqk,bkhc->bqhc", weights / weights.sum(-1, keepdim=True), v)
    return float((y - expected).abs().max() / expected.abs().max())


def _equal(reporter: Reporter) -> ClaimResult:
    worst = max(_difference(time, causal) for time in LENGTHS for causal in (False, True))
    return ClaimResult(f"largest difference {worst:.1e} in float64", worst <= TOLERANCE)


def _macs(name: str, **options: int) -> int:
    mixer = build_part(part(name, heads=HEADS, **options), DIM)
    return count_macs(mixer, torch.zeros(1, TOKENS, DIM))


def _cost(reporter: Reporter) -> ClaimResult:
    """Both without their projections: ``2 n² d`` and, with twice the features, ``2 n (2 d) (d + 1)``."""
    projections = 4 * TOKENS * DIM * DIM
    softmax = _macs("attention") - projections
    cosformer = _macs("cosformer_attention", length=TOKENS) - projections
    expected = 2 * TOKENS * 2 * DIM * (DIM + 1)
    return ClaimResult(
        f"{cosformer / 1e6:.2f} M beside {softmax / 1e6:.2f} M",
        cosformer == expected and softmax == 2 * TOKENS * TOKENS * DIM,
    )


def _decoder(mixers: PartSpec | tuple[PartSpec, ...]) -> ChainSpec:
    return small_decoder(part("glu"), depth=4, mixers=mixers, rotary=None, positions=part("learned_positions"))


_SOFTMAX, _LINEAR = part("attention"), part("cosformer_attention")
LOSSES = text_contest(
    {
        "softmax": lambda: _decoder(_SOFTMAX),
        "one layer of softmax in four": lambda: _decoder((_LINEAR, _LINEAR, _LINEAR, _SOFTMAX)),
        "cosformer": lambda: _decoder(_LINEAR),
    }
)


def _recovers(loss: Mapping[str, float]) -> bool:
    mixed = loss["one layer of softmax in four"]
    return mixed <= loss["softmax"] + LEVEL and mixed < loss["cosformer"]


CLAIMS: list[Claim] = [
    Claim(
        "cost",
        "count",
        f"multiply-accumulates of cosFormer and of softmax attention at {TOKENS:,} tokens and {DIM} channels, without "
        "projections",
        "4 n d (d + 1), with the sum of the weights, beside 2 n² d",
        _cost,
    ),
    Claim(
        "linear-is-quadratic",
        "equality",
        f"cosFormer's linear form is its quadratic one, causal and not, from 1 to {LENGTHS[-1]} tokens",
        "equal",
        _equal,
    ),
    LOSSES.claim(
        "mixed-recovers-softmax",
        f"one layer of softmax attention in four brings cosFormer's loss to within {LEVEL:g} nats a byte of softmax "
        "attention alone",
        holds=_recovers,
    ),
]
