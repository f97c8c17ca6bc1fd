"""Claims of the study of Mamba-based models: sizes, layers, outputs of transformers, and looking up in a phonebook."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import Contest
from formwright.catalog.experiments.sequences import answered_rightly, train_sequences
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.data.synthetic.phonebook import SPECIAL, phonebook
from formwright.models.language.mamba2 import allocate_layers, mamba2, mamba2_hybrid
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.objectives.language import NextToken
from formwright.reporting import Reporter

PATTERNS = {
    56: "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-",
    48: "M-M-M--M-*M-M-M-M--*M-M-M-M-*M--M-M-M-*M-M--M-M-",
}
#: Entries of the books that are trained on and of those that are tested with: small books teach the looking up sooner.
TRAINED, TESTED, NAMES = 4, 12, 16
STEPS, LEARNING_RATE = 600, 3e-3


def _layers(reporter: Reporter) -> ClaimResult:
    ours = {depth: allocate_layers(depth, 0.08, 0.5) for depth in PATTERNS}
    return ClaimResult("; ".join(ours.values()), ours == PATTERNS)


def _rows(batch: int, entries: int, generator: torch.Generator) -> Batch:
    return phonebook(batch, entries=entries, digits=1, queries=entries, names=NAMES, generator=generator)


def _small(attention: bool) -> ChainSpec:
    """Two sub-layers whose state holds fewer names than a book has."""
    sizes = {"dim": 64, "depth": 2, "states": 4, "head_dim": 16, "vocabulary": SPECIAL + NAMES}
    if not attention:
        return mamba2(tied=False, **sizes)  # type: ignore[arg-type]
    return mamba2_hybrid(heads=4, kv_heads=4, attention_ratio=0.5, mlp_ratio=0.0, groups=1, **sizes)  # type: ignore[arg-type]


def _run(specification: NetworkSpec, seed: int, reporter: Reporter) -> float:
    """The share of digits that are right, in books that were not trained on."""
    model = train_sequences(
        specification,
        NextToken(),
        GeneratedBatches(functools.partial(_rows, 32, TRAINED), seed=seed),
        steps=STEPS,
        seed=seed,
        learning_rate=LEARNING_RATE,
        reporter=reporter,
    )
    return answered_rightly(model, _rows(256, TESTED, torch.Generator().manual_seed(2**31)))


CONTEST = Contest(
    {"hybrid": functools.partial(_small, True), "mamba2": functools.partial(_small, False)},
    _run,
    f"books of {TRAINED} of {NAMES} names with a digit each, {STEPS} steps of 32 books, digits of 256 books of "
    f"{TESTED} names; two sub-layers with 4 states a channel, the second attention in the hybrid",
    "{:.1%}".format,
)


def _above(share: Mapping[str, float]) -> bool:
    return share["hybrid"] > share["mamba2"]


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "mamba2_8b": 8_236_999_680,
            "mamba2_hybrid_8b": 8_654_517_248,
        }
    ),
    Claim(
        id="layers",
        kind="count",
        statement="56 and 48 sub-layers are shared out as the authors' code does",
        published="; ".join(PATTERNS.values()),
        run=_layers,
    ),
    *output_claims("mamba2-hybrid", "transformers"),
    CONTEST.claim(
        "phonebook",
        "with attention in one sub-layer of two it looks up more numbers rightly than Mamba-2 alone, trained alike",
        holds=_above,
    ),
]
