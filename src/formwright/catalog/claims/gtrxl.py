"""Claims of GTrXL: the size of its gates, the outputs of DI-engine's, and what its gates are for."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping
from typing import Any

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import Contest, parameters
from formwright.catalog.experiments.sequences import train_sequences
from formwright.catalog.figures import output_claims
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.data.synthetic.t_maze import ACTIONS, SIGNALS, Episodes, t_maze
from formwright.models import model_specification
from formwright.models.language.gtrxl import gtrxl
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.objectives.language import NextToken
from formwright.reporting import Reporter, Share

SHORTEST, LONGEST, NOISE = 4, 8, 4
DEPTH, STEPS = 4, 300
MARGIN = 0.1
#: The largest is one at which norms after the sums are known to fail here: stability is what is compared.
LEARNING_RATES = (0.003, 0.01, 0.03)
KINDS: dict[str, dict[str, Any]] = {
    "gtrxl": {},
    "trxl-i": {"gate": None},
    "trxl": {"gate": None, "reordered": False},
}


def _gates(reporter: Reporter) -> ClaimResult:
    gated, summed = (parameters(model_specification(name)) for name in ("gtrxl_dmlab", "trxl_i_dmlab"))
    expected = 12 * 2 * (6 * 256**2 + 256)
    return ClaimResult(f"{gated - summed:,} more than with sums", gated - summed == expected)


def _small(kind: str) -> ChainSpec:
    return gtrxl(
        dim=32,
        depth=DEPTH,
        heads=4,
        head_dim=8,
        memory=LONGEST + 2,
        hidden=64,
        channels=SIGNALS + NOISE,
        length=LONGEST + 2,
        actions=ACTIONS,
        **KINDS[kind],
    )


def _episodes(batch: int, generator: torch.Generator) -> Episodes:
    return t_maze(batch, SHORTEST, LONGEST, generator=generator, noise=NOISE)


def _batch(generator: torch.Generator) -> Batch:
    return _episodes(32, generator).batch()


def _run(specification: NetworkSpec, seed: int, reporter: Reporter) -> float:
    """The share of right turns in new mazes, its mean over the learning rates."""
    shares = []
    for index, learning_rate in enumerate(LEARNING_RATES):
        model = train_sequences(
            specification,
            NextToken(),
            GeneratedBatches(_batch, seed=seed),
            steps=STEPS,
            seed=seed,
            learning_rate=learning_rate,
            optimizer="adamw",
            warmup=0,
            reporter=Share(reporter, index, len(LEARNING_RATES)),
        )
        test = _episodes(256, torch.Generator().manual_seed(2**31))
        with torch.inference_mode():
            shares.append(float(test.turned_rightly(model(test.observations)).float().mean()))
    return statistics.mean(shares)


CONTEST = Contest(
    {kind: functools.partial(_small, kind) for kind in KINDS},
    _run,
    f"corridors of {SHORTEST} to {LONGEST} steps, imitated for {STEPS} steps of 32 episodes by AdamW without "
    f"warm-up, {DEPTH} blocks, right turns in 256 others, mean over learning rates "
    f"{', '.join(f'{rate:g}' for rate in LEARNING_RATES)}",
    "{:.1%}".format,
)


def _above(share: Mapping[str, float]) -> bool:
    return share["gtrxl"] > share["trxl"] + MARGIN


CLAIMS: list[Claim] = [
    Claim(
        id="gates",
        kind="count",
        statement="each of 24 gates adds six matrices and a bias, 6 d² + d parameters, to the 12 layers of d = 256",
        published=f"{12 * 2 * (6 * 256**2 + 256):,}",
        run=_gates,
    ),
    *output_claims("gtrxl", "DI-engine, its query normed and its attention without biases as in the paper,"),
    CONTEST.claim(
        "remembers-the-sign",
        f"over seeds and learning rates GTrXL turns rightly in a T-maze more often than Transformer-XL by {MARGIN:.0%}",
        holds=_above,
    ),
]
