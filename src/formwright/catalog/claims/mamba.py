"""Claims of Mamba: sizes, outputs of transformers, a cost that is linear in the length, and selective copying."""

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
from formwright.data.synthetic.selective_copying import selective_copying
from formwright.measurement.latency import compare
from formwright.models.language.mamba import mamba
from formwright.nn import build_part, part
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.objectives.language import NextToken
from formwright.reporting import Reporter

LENGTH, TOKENS, VOCABULARY = 24, 4, 8
STEPS, LEARNING_RATE = 400, 2e-2
SHORT, LONG, DIM = 1024, 4096, 256


def _rows(batch: int, generator: torch.Generator) -> Batch:
    return selective_copying(batch, LENGTH, tokens=TOKENS, vocabulary=VOCABULARY, generator=generator)


def _small(selective: bool) -> ChainSpec:
    return mamba(dim=32, depth=2, vocabulary=VOCABULARY, length=LENGTH + TOKENS, selective=selective)


def _run(specification: NetworkSpec, seed: int, reporter: Reporter) -> float:
    """The share of tokens that are copied rightly, in rows that were not trained on."""
    model = train_sequences(
        specification,
        NextToken(),
        GeneratedBatches(functools.partial(_rows, 32), seed=seed),
        steps=STEPS,
        seed=seed,
        learning_rate=LEARNING_RATE,
        reporter=reporter,
    )
    return answered_rightly(model, _rows(256, torch.Generator().manual_seed(2**31)))


CONTEST = Contest(
    {"mamba": functools.partial(_small, True), "time-invariant": functools.partial(_small, False)},
    _run,
    f"{TOKENS} of {VOCABULARY - 2} kinds of tokens among {LENGTH} ids, {STEPS} steps of 32 rows, tokens "
    "of 256 other rows",
    "{:.1%}".format,
)


def _above(share: Mapping[str, float]) -> bool:
    return share["mamba"] > share["time-invariant"]


def _linear(reporter: Reporter) -> ClaimResult:
    specs = {"mamba": part("mamba"), "attention": part("attention", head_dim=64, causal=True)}
    calls = {}
    for name, spec in specs.items():
        layer = build_part(spec, DIM).eval()
        for length in (SHORT, LONG):
            calls[f"{name} {length}"] = functools.partial(layer, torch.randn(1, length, DIM))
    with torch.inference_mode():
        taken = compare(calls, min_time=0, min_rounds=5, warmup=1)
    ratios = {name: 1 / taken.speedup(f"{name} {LONG}", f"{name} {SHORT}") for name in specs}
    measured = ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items())
    return ClaimResult(measured, ratios["mamba"] <= 1.2 * LONG / SHORT < ratios["attention"])


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "mamba_130m": 129_135_360,
            "mamba_370m": 371_516_416,
            "mamba_790m": 793_204_224,
            "mamba_1.4b": 1_372_178_432,
            "mamba_2.8b": 2_768_345_600,
        }
    ),
    *output_claims("mamba", "transformers"),
    Claim(
        id="linear-in-length",
        kind="measured",
        statement=f"a layer of {DIM} channels takes about {LONG // SHORT} times as long for {LONG} tokens as for "
        f"{SHORT}, and attention more",
        published="linear",
        run=_linear,
    ),
    CONTEST.claim(
        "selective-copying",
        "copies the tokens among noise, where the same layer with steps and matrices that do not depend on the token "
        "does not",
        holds=_above,
    ),
]
