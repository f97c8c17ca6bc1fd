"""Claims of MASFormer: sizes and outputs of GPT-Neo, what it costs and remembers, and recall over long distances."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from formwright.arena.contest import train_and_score
from formwright.arena.tasks import Parts
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.catalog.sequence_contests import SequenceContest
from formwright.data.synthetic.recall import key_recall
from formwright.models import create_model
from formwright.models.language.masformer import full_layers, masformer
from formwright.nn.specification import ModelSpec
from formwright.reporting import Reporter

#: Two of eight layers full, a window of a sixteenth of the text.
LAYERS, FULL, TOKENS, WINDOW = 8, 2, 4096, 256
RECALL_TOKENS, RECALL_WINDOW, RECALL_LAYERS = 32, 2, 4
RECALL_STEPS = 1000
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


@functools.cache
def _recall() -> Parts:
    """One key with its value in each row, all other ids alike: what is far has to be found, not told apart."""
    parts = [key_recall(n, RECALL_TOKENS, keys=4, pairs=1, noise=1, seed=seed) for seed, n in enumerate((20_000, 500))]
    return Parts(*parts)


def _frame(full: Sequence[int]) -> ModelSpec:
    return masformer(
        dim=64,
        depth=RECALL_LAYERS,
        heads=2,
        hidden=128,
        full=full,
        window=RECALL_WINDOW,
        vocabulary=_recall().train.vocabulary,
        length=RECALL_TOKENS,
        classes=_recall().train.classes,
    )


def _train(specification: ModelSpec, seed: int, reporter: Reporter) -> float:
    return train_and_score(
        specification, _recall(), steps=RECALL_STEPS, seed=seed, learning_rate=3e-3, batch_size=32, reporter=reporter
    ).accuracy


RECALL = SequenceContest(
    {
        "full": lambda: _frame(range(RECALL_LAYERS)),
        "a quarter full": lambda: _frame(full_layers(RECALL_LAYERS, 1, "even")),
        "local": lambda: _frame(()),
    },
    _train,
    f"a key with one of 8 values among {RECALL_TOKENS} ids, the key again at the end; windows of {RECALL_WINDOW}, "
    f"{RECALL_STEPS} steps of 32",
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
