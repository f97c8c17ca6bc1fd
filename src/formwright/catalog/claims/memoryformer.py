"""Claims of MemoryFormer: sizes and outputs of the authors' code, what tables save, and what they cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import parameters
from formwright.catalog.experiments.texts import LENGTH, VOCABULARY, small_decoder, text_contest
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.measurement.latency import compare
from formwright.measurement.macs import count_macs
from formwright.models import empty_copy, model_specification
from formwright.models.language.memoryformer import memoryformer
from formwright.models.language.transformer import decoder
from formwright.nn import Part, build_part
from formwright.nn.frame import Block
from formwright.nn.specification import ChainSpec, part
from formwright.reporting import Reporter

#: Nats a byte by which the tables may be above dense layers, and the most of their multiplications that they may take.
NEAR, SHARE = 0.3, 0.25
PUBLISHED_SHARE = 0.2


def _tables(score: str) -> ChainSpec:
    return memoryformer(dim=64, depth=2, heads=2, score=score, tied=True, vocabulary=VOCABULARY, length=LENGTH)


LOSSES = text_contest(
    {
        "tables": lambda: _tables("vertex_probability"),
        "tables, released score": lambda: _tables("scaled_vertex_probability"),
        "dense": lambda: small_decoder(part("mlp")),
    }
)


def projection_macs(specification: ChainSpec) -> int:
    """Multiply-accumulates a token of all blocks, without the products of attention."""
    length, dim = 16, specification.stages[0].dim
    tokens = torch.zeros(1, length, dim, device="meta")
    blocks = [block for block in empty_copy(specification).modules() if isinstance(block, Block)]
    whole = sum(count_macs(block, tokens) for block in blocks)
    return whole // length - len(blocks) * 2 * dim * length


def _saved(reporter: Reporter) -> ClaimResult:
    tables = model_specification("memoryformer_tiny")
    dense = decoder(dim=512, depth=6, heads=8, channel_mixer=part("mlp"), tied=False, vocabulary=50304)
    ours, theirs = projection_macs(tables), projection_macs(dense)
    return ClaimResult(
        f"{ours / theirs:.1%}: {ours / 1e6:.2f} M instead of {theirs / 1e6:.2f} M a token",
        ours / theirs < PUBLISHED_SHARE,
        f"with {parameters(tables) / 1e6:.0f} M parameters instead of {parameters(dense) / 1e6:.0f} M",
    )


def _near_dense(loss: Mapping[str, float]) -> bool:
    specifications = LOSSES.specifications()
    share = projection_macs(specifications["tables"]) / projection_macs(specifications["dense"])
    return loss["tables"] <= loss["dense"] + NEAR and share < SHARE


@torch.inference_mode()
def _faster(reporter: Reporter) -> ClaimResult:
    """The channel mixers of the tiny model and of its dense baseline, on one token and on many."""
    torch.manual_seed(0)
    mixers: dict[str, Part] = {
        "tables": build_part(part("lookup_mlp"), 512).eval(),
        "dense": build_part(part("mlp"), 512).eval(),
    }
    told, speedups = [], []
    for tokens in (1, 256):
        x = torch.nn.functional.layer_norm(torch.randn(1, tokens, 512), (512,))
        comparison = compare({name: functools.partial(mixer, x) for name, mixer in mixers.items()}, min_time=2.0)
        speedups.append(comparison.speedup("tables", over="dense"))
        told.append(f"{speedups[-1]:.2f} times as fast on {tokens} tokens")
    return ClaimResult("; ".join(told), min(speedups) > 1, "channel mixers of 512 channels, float32, this machine")


CLAIMS: list[Claim] = [
    # as the authors' code: 3 (K 2^c d + d) + K 2^c m + 3 m + K 2^(c + 2) d + d + 2 d a block with m = K (c + 2)
    *parameter_claims({"memoryformer_tiny": 466_777_856, "memoryformer_small": 1_011_593_856}),
    *output_claims("memoryformer", "C0-Design/MemoryFormer"),
    Claim(
        "multiplications-saved",
        "count",
        "projections and channel mixers of memoryformer_tiny take less than a fifth of the multiply-accumulates of "
        "dense ones",
        f"below {PUBLISHED_SHARE:.0%}",
        _saved,
    ),
    LOSSES.claim(
        "loss-near-dense",
        f"tables reach a loss at most {NEAR:g} nats a byte above dense layers of the same width, with less than "
        f"{SHARE:.0%} of their multiplications",
        holds=_near_dense,
    ),
    Claim(
        "faster-channel-mixer",
        "measured",
        "the channel mixer of tables is faster than the dense one of its width",
        "faster",
        _faster,
    ),
]
