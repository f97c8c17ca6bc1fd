"""Claims of MASFormer: sizes and outputs of GPT-Neo, what it costs and remembers, and recall over long distances."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import Contest
from formwright.catalog.experiments.sequences import answered_rightly, train_sequences
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.data.synthetic.associative_recall import associative_recall
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.models import create_model
from formwright.models.language.masformer import full_layers, masformer
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.objectives import NextToken
from formwright.reporting import Reporter

#: Two of eight layers full, a window of a sixteenth of the text.
LAYERS, FULL, TOKENS, WINDOW = 8, 2, 4096, 256
RECALL_TOKENS, RECALL_PAIRS, RECALL_VOCABULARY = 64, 4, 17
RECALL_WINDOW, RECALL_LAYERS = 2, 4
RECALL_STEPS, RECALL_BATCH, RECALL_RATE = 500, 32, 0.02
NEAR = 0.05


def _score_pairs(full: int) -> int:
    """Pairs of a query and a key that are compared, a square or a band of ``WINDOW`` a layer."""
    return full * TOKENS * TOKENS + (LAYERS - full) * TOKENS * WINDOW


def _cost(reporter: Reporter) -> ClaimResult:
    share = _score_pairs(FULL) / _score_pairs(LAYERS)
    return ClaimResult(f"{share:.1%}", 0.25 <= share <= 0.32)


def _cache(reporter: Reporter) -> ClaimResult:
    model = create_model(
        "masformer_125m", dim=16, heads=2, depth=LAYERS, full=full_layers(LAYERS, FULL), window=WINDOW, length=TOKENS
    )
    state = model.init_state(1, TOKENS)
    slots = sum(tensor.shape[1] for name, tensor in state.items() if name.endswith("/keys"))
    expected = FULL * TOKENS + (LAYERS - FULL) * WINDOW
    return ClaimResult(f"{slots:,} of {LAYERS * TOKENS:,} keys", slots == expected)


def _rows(rows: int, generator: torch.Generator) -> Batch:
    return associative_recall(
        rows, RECALL_TOKENS, pairs=RECALL_PAIRS, generator=generator, vocabulary=RECALL_VOCABULARY
    )


def _frame(full: Sequence[int]) -> ChainSpec:
    specification = masformer(
        dim=64,
        depth=RECALL_LAYERS,
        heads=2,
        hidden=128,
        full=full,
        window=RECALL_WINDOW,
        vocabulary=RECALL_VOCABULARY,
        length=RECALL_TOKENS,
    )
    # With weights of 0.02 attention of 64 channels starts out blind to its queries.
    return dataclasses.replace(specification, initialization="fan_in")


def _train(specification: NetworkSpec, seed: int, reporter: Reporter) -> float:
    """The share of questions that are answered rightly in new rows."""
    batches = GeneratedBatches(lambda generator: _rows(RECALL_BATCH, generator), seed=seed)
    model = train_sequences(
        specification,
        NextToken(),
        batches,
        steps=RECALL_STEPS,
        seed=seed,
        learning_rate=RECALL_RATE,
        reporter=reporter,
    )
    return answered_rightly(model, _rows(256, torch.Generator().manual_seed(2**31)))


RECALL = Contest(
    {
        "full": lambda: _frame(range(RECALL_LAYERS)),
        "a quarter full": lambda: _frame(full_layers(RECALL_LAYERS, 1, "even")),
        "local": lambda: _frame(()),
    },
    _train,
    f"{RECALL_PAIRS} keys with values at the start of {RECALL_TOKENS} ids, each key once again later; windows of "
    f"{RECALL_WINDOW}, {RECALL_STEPS} steps of {RECALL_BATCH}",
    lambda share: f"{share:.1%}",
)


def _near_full(accuracy: Mapping[str, float]) -> bool:
    return accuracy["a quarter full"] >= accuracy["full"] - NEAR and accuracy["full"] > 2 * accuracy["local"]


CLAIMS: list[Claim] = [
    # No parameter is added to GPT-Neo, at its own length and at the paper's 8k.
    *parameter_claims({"masformer_125m": 125_198_592, "masformer_1_3b": 1_328_158_720}),
    *output_claims("masformer", "transformers' GPT-Neo with one full and three local layers"),
    Claim(
        "score-cost",
        "count",
        f"pairs of tokens that are compared with {FULL} of {LAYERS} layers full and a window of {WINDOW} of {TOKENS:,} "
        "tokens, over those of full attention",
        "25% to 32%",
        _cost,
    ),
    Claim(
        "cache",
        "count",
        f"keys that are kept of {TOKENS:,} tokens with {FULL} of {LAYERS} layers full and windows of {WINDOW}",
        f"{FULL * TOKENS + (LAYERS - FULL) * WINDOW:,}: n a full layer, w a local one",
        _cache,
    ),
    RECALL.claim(
        "recall-with-a-quarter-full",
        f"with a quarter of its layers full it recalls a value as well as full attention (within {NEAR:.0%}), and "
        "local attention alone does not (below half of it)",
        holds=_near_full,
    ),
]
